<?php

require __DIR__ . '/story.php';

story(function (string $method, string $path, array $headers, ?string $body): array {
    $lines = [];
    $curl = curl_init(getenv('CRYPTOPAY_URL') . $path);
    curl_setopt_array($curl, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$lines): int {
            $lines[] = $line;
            return strlen($line);
        },
    ]);
    if ($body !== null) {
        curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    }
    $answer = curl_exec($curl);
    check($answer !== false, curl_error($curl));
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), headers_of($lines), json_decode($answer, true)];
});
