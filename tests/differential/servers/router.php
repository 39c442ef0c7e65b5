<?php
// Answers with the target; writes what it has read to the file that SEEN names.
$seen = ['m' => $_SERVER['REQUEST_METHOD'], 'u' => $_SERVER['REQUEST_URI'], 'bh' => bin2hex(file_get_contents('php://input'))];
file_put_contents(getenv('SEEN'), json_encode($seen) . "\n", FILE_APPEND);
header('Content-Type: text/plain');
echo $_SERVER['REQUEST_URI'];
