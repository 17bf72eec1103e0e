<?php
// CloudBill Pro's example, with the address and the token from outside: php services.php URL TOKEN
$base = $argv[1] ?? getenv('CLOUDARC_URL');
$token = $argv[2] ?? getenv('CLOUDARC_TOKEN');
$ch = curl_init("{$base}/services");
curl_setopt_array($ch, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => ["Authorization: Bearer {$token}"],
]);
$response = json_decode(curl_exec($ch), true);
curl_close($ch);
foreach ($response['data'] as $service) {
    echo "{$service['product_name']} — {$service['status']}\n";
}
