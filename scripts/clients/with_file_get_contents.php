<?php

// file_get_contents, in HTTP/1.0 as older versions speak it and in 1.1.

require __DIR__ . '/story.php';

foreach ([1.0, 1.1] as $version) {
    story(function (string $method, string $path, array $headers, ?string $body) use ($version): array {
        $http = [
            'method' => $method,
            'protocol_version' => $version,
            'header' => implode("\r\n", $headers),
            'ignore_errors' => true,
        ];
        if ($body !== null) {
            $http['content'] = $body;
        }
        $answer = file_get_contents(getenv('CRYPTOPAY_URL') . $path, false, stream_context_create(['http' => $http]));
        check($answer !== false, 'no answer');
        [, $status] = explode(' ', $http_response_header[0]);
        return [(int) $status, headers_of($http_response_header), json_decode($answer, true)];
    });
}
