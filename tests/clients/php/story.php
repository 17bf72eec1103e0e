<?php
// The story of every client, with the clients that openapi-generator makes for PHP.
declare(strict_types=1);

use CloudArc\Admin;
use CloudArc\Client;

require '/usr/share/php/GuzzleHttp/autoload.php';
spl_autoload_register(function (string $class): void {
    foreach (['CloudArc\\Admin\\' => 'cloudarc-admin', 'CloudArc\\Client\\' => 'cloudarc-client'] as $prefix => $folder) {
        if (str_starts_with($class, $prefix)) {
            require __DIR__ . "/$folder/lib/" . strtr(substr($class, strlen($prefix)), '\\', '/') . '.php';
        }
    }
});
set_error_handler(fn(int $level, string $text, string $file, int $line) => throw new ErrorException($text, 0, $level, $file, $line));

[$url, $limited, $token, $key, $delivery] = array_map(
    fn(string $name): string => (string) getenv("CLOUDARC_$name"),
    ['URL', 'LIMITED', 'TOKEN', 'KEY', 'DELIVERY'],
);
const NOWHERE = 9007199254740991;

function check(bool $good, mixed $what = null): void
{
    if (!$good) {
        throw new RuntimeException('not as expected: ' . json_encode($what));
    }
}

function step(string $name, callable $work): void
{
    $start = hrtime(true);
    $work();
    echo $name, ' ', intdiv(hrtime(true) - $start, 1_000_000), "\n";
}

function refused(callable $call, int $status): Client\ApiException|Admin\ApiException
{
    try {
        $call();
    } catch (Client\ApiException | Admin\ApiException $error) {
        check($error->getCode() === $status, $error->getMessage());
        return $error;
    }
    throw new RuntimeException("not $status");
}

/** The generator has no unions, so where an answer may be in either dialect its body says more than its object. */
function told(Client\ApiException|Admin\ApiException $error, string $class): object
{
    $serializer = $error instanceof Client\ApiException ? Client\ObjectSerializer::class : Admin\ObjectSerializer::class;
    return $serializer::deserialize(json_decode($error->getResponseBody()), $class);
}

// The first call:
$config = (new Client\Configuration())->setHost($url)->setAccessToken($token);
$services = (new Client\Api\ServicesApi(config: $config))->listServices();
foreach ($services->getData() as $service) {
    echo '# ', $service->getProductName(), ' ', $service->getStatus(), "\n";
}
// Until here.
$operator = (new Admin\Configuration())->setHost($url)->setAccessToken($key);
$tickets = new Client\Api\TicketsApi(config: $config);
$invoices = new Admin\Api\InvoicesApi(config: $operator);
$lines = array_map(
    fn(float $amount) => new Admin\Model\InvoiceLineInput(['description' => 'Hosting', 'amount' => $amount]),
    [19.99, 4.35],
);
$due = new DateTime('2035-01-31');

step('authorise', function () use ($url, $config) {
    check((new Client\Api\ProfileApi(config: $config))->getProfile()->getId() === 42);
    $stranger = (new Client\Configuration())->setHost($url)->setAccessToken('nobody');
    refused(fn() => (new Client\Api\ServicesApi(config: $stranger))->listServices(), 401);
});
step('list', function () use ($services) {
    check(count($services->getData()) === 1 && $services->getData()[0]->getProductName() === 'Business Hosting');
});
step('page', function () use ($invoices) {
    $first = $invoices->listInvoices(limit: 2);
    $last = $first->getData()[1]->getId();
    $second = $invoices->listInvoices(limit: 2, after: (string) $last);
    check(count($first->getData()) === 2 && count($second->getData()) === 2 && $first->getMeta()->getTotal() > 4);
    check($second->getData()[0]->getId() < $last);
});
step('create', function () use ($tickets, $invoices, $lines, $due) {
    $wanted = new Client\Model\ClientTicketInput(['subject' => 'Grüße', 'message' => 'Hello', 'department_id' => 1]);
    $opened = $tickets->createTicket($wanted);
    check($tickets->getTicket($opened->getTicketId())->getSubject() === 'Grüße');
    $made = $invoices->createInvoice(new Admin\Model\InvoiceInput(['client_id' => 56, 'due_date' => $due, 'items' => $lines]));
    check($made->getData()->getTotal() === '24.34' && $made->getData()->getDueDate() == $due, $made);
});
step('instant', function () use ($operator) {
    $now = new DateTimeImmutable();
    $dates = ['registered_at' => DateTime::createFromImmutable($now), 'expires_at' => new DateTime('+1 year')];
    $wanted = new Admin\Model\DomainInput(['client_id' => 56, 'domain' => 'php.example.com', ...$dates]);
    $domain = (new Admin\Api\DomainsApi(config: $operator))->createDomain($wanted)->getData();
    check($domain->getRegisteredAt()->getTimestamp() === $now->getTimestamp(), $domain);
    check($domain->getExpiresAt()->getTimestamp() === $dates['expires_at']->getTimestamp(), $domain);
    $webhooks = new Admin\Api\WebhooksApi(config: $operator);
    $id = $webhooks->listWebhooks()->getData()[0]->getId();
    $since = new Admin\Model\WebhookRecoverInput(['since' => $dates['registered_at']]);
    check($webhooks->recoverWebhook($id, $since)->getData()->getWebhookId() === $id);
});
step('unchanged', function () use ($invoices) {
    $id = $invoices->listInvoices(limit: 1)->getData()[0]->getId();
    [, , $headers] = $invoices->getInvoiceWithHttpInfo($id);
    $tag = array_change_key_case($headers)['etag'][0];
    refused(fn() => $invoices->getInvoice($id, if_none_match: $tag), 304);
});
step('not_found', function () use ($tickets, $invoices) {
    $missing = told(refused(fn() => $tickets->getTicket(NOWHERE), 404), Client\Model\ClientError::class);
    check($missing->getCode() === 404 && $missing->valid(), $missing);
    $absent = told(refused(fn() => $invoices->getInvoice(NOWHERE), 404), Admin\Model\AdminError::class);
    check($absent->getError()->getCode() === Admin\Model\ErrorCode::NOT_FOUND, $absent);
});
step('invalid', function () use ($tickets, $invoices, $lines, $due) {
    $ticket = new Client\Model\ClientTicketInput(['subject' => 'Help', 'department_id' => 1]);
    $told = refused(fn() => $tickets->createTicket($ticket), 422)->getResponseObject();
    check($told instanceof Client\Model\ClientValidationError && $told->getDetails()[0]->getPointer() === '/message', $told);
    $invoice = new Admin\Model\InvoiceInput(['due_date' => $due, 'items' => $lines]);
    $denied = refused(fn() => $invoices->createInvoice($invoice), 400)->getResponseObject();
    check($denied instanceof Admin\Model\AdminValidationError, $denied);
    check($denied->getError()->getDetails()[0]->getPointer() === '/client_id', $denied);
});
step('limited', function () use ($limited, $key) {
    $hasty = new Admin\Api\DepartmentsApi(config: (new Admin\Configuration())->setHost($limited)->setAccessToken($key));
    $error = refused(fn() => array_map(fn() => $hasty->listDepartments(), range(1, 20)), 429);
    check(told($error, Admin\Model\AdminError::class)->getError()->getCode() === Admin\Model\ErrorCode::RATE_LIMITED);
    $headers = array_change_key_case($error->getResponseHeaders());
    check((int) $headers['retry-after'][0] >= 1, $headers);
});
step('webhook', function () use ($delivery, $operator) {
    $event = Admin\ObjectSerializer::deserialize(json_decode(file_get_contents($delivery)), Admin\Model\InvoicePaidEvent::class);
    check($event instanceof Admin\Model\InvoicePaidEvent && $event->valid());
    check($event->getEvent() === 'invoice.paid' && $event->getData()->getTotal() === '29.99');
    $page = (new Admin\Api\EventsApi(config: $operator))->listEvents(type: Admin\Model\EventName::INVOICE_PAID);
    check(is_string($page->getData()[0]->getData()['total']), $page);
});
