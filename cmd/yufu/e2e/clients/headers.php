<?php
// A back end that returns the headers of a request in PHP, as JSON: `server` has the
// HTTP_ entries of $_SERVER, `raw` the received names.
header('Content-Type: application/json');
echo json_encode([
    'server' => (object) array_filter($_SERVER, fn ($name) => str_starts_with($name, 'HTTP_'), ARRAY_FILTER_USE_KEY),
    'raw' => array_map('bin2hex', array_map('strval', array_keys(getallheaders()))),
], JSON_INVALID_UTF8_SUBSTITUTE);
