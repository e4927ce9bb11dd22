<?php
// A back end that tells what PHP makes of a request's headers, as JSON: `server`
// holds the HTTP_ entries of $_SERVER, `raw` the names as they came.
header('Content-Type: application/json');
echo json_encode([
    'server' => (object) array_filter($_SERVER, fn ($name) => str_starts_with($name, 'HTTP_'), ARRAY_FILTER_USE_KEY),
    'raw' => array_map('bin2hex', array_map('strval', array_keys(getallheaders()))),
], JSON_INVALID_UTF8_SUBSTITUTE);
