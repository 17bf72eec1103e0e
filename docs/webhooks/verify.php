<?php
// Verify a CloudArc webhook. Use one of the two functions, on the body's raw bytes, before parsing them:
// in a page they are file_get_contents('php://input').
//
//   WEBHOOK_SECRET=whsec_… php verify.php ID TIMESTAMP SIGNATURE < body    checks the headers
//   WEBHOOK_SECRET=whsec_… php verify.php < body                           checks the body's signature
//
// The exit status is 0 if the delivery is genuine, else 1.

const TOLERANCE = 5 * 60;
const TAIL = 87; // the length of ,"signature":"sha256=…"}

// Check webhook-id, webhook-timestamp and webhook-signature. A delivery that is replayed later fails.
function verify_headers(string $secret, string $id, string $timestamp, string $signatures, string $body): bool
{
    if (!preg_match('/^[0-9]{1,12}\z/', $timestamp) || abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $expected = 'v1,' . base64_encode(mac($secret, "{$id}.{$timestamp}.{$body}"));
    // While a secret is rotated there are two signatures.
    foreach (explode(' ', $signatures) as $each) {
        if (hash_equals($expected, $each)) {
            return true;
        }
    }
    return false;
}

// Check the member "signature": it signs the body without its tail, and with the brace put back.
function verify_body(string $secret, string $body): bool
{
    $expected = ',"signature":"sha256=' . bin2hex(mac($secret, substr($body, 0, -TAIL) . '}')) . '"}';
    return hash_equals($expected, substr($body, -TAIL));
}

function mac(string $secret, string $signed): string
{
    $key = (string) base64_decode(preg_replace('/^whsec_/', '', $secret), true);
    if (strlen($key) !== 36) { // above all, a secret that is missing must not become an empty key
        throw new InvalidArgumentException('This is not a webhook secret.');
    }
    return hash_hmac('sha256', $signed, $key, true);
}

if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    $secret = (string) getenv('WEBHOOK_SECRET');
    $body = file_get_contents('php://stdin');
    $given = array_slice($argv, 1);
    exit(($given ? verify_headers($secret, ...$given, body: $body) : verify_body($secret, $body)) ? 0 : 1);
}
