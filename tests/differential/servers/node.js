// Answers with the target; writes what it has read to standard output.
const http = require("node:http");
const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const body = Buffer.concat(pieces).toString("hex");
    console.log(JSON.stringify({ m: request.method, u: request.url, bh: body }));
    response.end(request.url);
  });
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), "127.0.0.1");
