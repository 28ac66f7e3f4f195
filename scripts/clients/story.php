<?php

// The API overview, followed with any HTTP library. $send($method, $path, $headers, $body) takes the headers as lines and the
// body as text or null, and gives the status, the headers by lower-case name and the parsed answer.

declare(strict_types=1);

function story(callable $send): void
{
    $bearer = ['Authorization: Bearer ' . getenv('CRYPTOPAY_KEY')];
    $json = ['Content-Type: application/json'];
    $get = fn (string $path) => $send('GET', $path, $bearer, null);
    $write = fn (string $method, string $path, array $body) =>
        $send($method, $path, [...$bearer, ...$json], json_encode($body));

    $login = succeeds($send('POST', '/api/auth/login', $json, json_encode([
        'username' => getenv('CRYPTOPAY_USERNAME'),
        'password' => getenv('CRYPTOPAY_PASSWORD'),
    ])), 200);
    succeeds($send('GET', '/api/payment-orders/', ['Authorization: Bearer ' . $login['access']], null), 200);

    $created = $write('POST', '/api/payment-orders/', [
        'amount' => '100.00',
        'currency' => 'USDC',
        'blockchain' => 'base',
        'order_info' => json_encode(['product' => 'Premium Plan']),
        // A float, written as 1700000000000.0, as it comes of such a sum.
        'nonce' => round(microtime(true) * 1000) + mt_rand(0, 999999),
    ]);
    $order = succeeds($created, 201);
    check($order['order_info'] === '{"product":"Premium Plan"}', 'order_info');
    foreach (['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'] as $name) {
        check(ctype_digit($created[1][$name] ?? ''), $name);
    }
    $same = succeeds($get("/api/payment-orders/{$order['id']}/"), 200);
    check($same['order_id'] === $order['order_id'], 'the same order');

    $page = $get('/api/payment-orders/?page=2&page_size=50')[2];
    check($page['count'] >= 150 && count($page['results']) === 50, 'a page');
    check($page['next'] === '/api/payment-orders/?page=3&page_size=50', 'the next page');
    check($page['previous'] === '/api/payment-orders/?page=1&page_size=50', 'the previous page');

    $hash = $get('/api/transactions/')[2]['results'][0]['transaction_hash'];
    succeeds($get("/api/transactions/$hash/"), 200);

    $address = '0x' . bin2hex(random_bytes(20));
    $wallet = succeeds($write('POST', '/api/merchant-wallets/', ['blockchain' => 'polygon', 'address' => $address]), 201);
    check(count($get('/api/merchant-wallets/')[2]['results']) > 0, 'wallets');
    succeeds($write('PUT', "/api/merchant-wallets/{$wallet['id']}/", ['address' => $address, 'label' => 'mine']), 200);

    $url = 'https://shop.example/hook';
    $new = ['url' => $url, 'events' => ['payment.confirmed']];
    $endpoint = succeeds($write('POST', '/api/webhook-endpoints/', $new), 201);
    check(count($get('/api/webhook-endpoints/')[2]['results']) > 0, 'endpoints');
    succeeds($write('PUT', "/api/webhook-endpoints/{$endpoint['id']}/", ['url' => $url, 'is_active' => false]), 200);

    $refused = fails($write('POST', '/api/payment-orders/', ['amount' => 'much']), 400, 'VALIDATION_ERROR');
    check(is_array($refused['details']['currency']), 'details');
    fails($send('GET', '/api/payment-orders/', [], null), 401, 'AUTHENTICATION_REQUIRED');
    fails($get('/api/payment-orders/ORD-000000000000/'), 404, 'NOT_FOUND');
}

function check(bool $holds, string $what): void
{
    if (!$holds) {
        throw new RuntimeException($what);
    }
}

function succeeds(array $answer, int $status): array
{
    check($answer[0] === $status && $answer[2]['success'] === true, json_encode($answer));
    check(is_string($answer[2]['message']) && strtotime($answer[2]['timestamp']) > 0, json_encode($answer));
    return $answer[2]['data'];
}

function fails(array $answer, int $status, string $code): array
{
    check($answer[0] === $status && $answer[2]['success'] === false, json_encode($answer));
    check($answer[2]['error']['code'] === $code, json_encode($answer));
    return $answer[2]['error'];
}

/** The headers of lines such as `Name: value`, by name in lower case. */
function headers_of(array $lines): array
{
    $headers = [];
    foreach ($lines as $line) {
        [$name, $value] = [...explode(':', trim($line), 2), ''];
        $headers[strtolower($name)] = trim($value);
    }
    return $headers;
}
