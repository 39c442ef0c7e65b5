// The end of the server's chain: stands for the application.
pipy()
.pipeline()
  .replaceMessage(msg => new Message({ status: 200 }, `${msg.head.method} ${msg.head.path} ${msg.head.headers['x-iam-token'] ?? '-'}\n`))
