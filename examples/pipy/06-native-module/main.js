// Answers each request with the number of words in its body, which a module in C has counted.
pipy()

.import({ __words: 'counter' })

.listen(os.env.PORT ?? 8080)
.demuxHTTP().to($ => $
  .use(os.env.MODULE ?? './counter.so')
  .replaceMessage(() => new Message({ headers: { 'content-type': 'text/plain' } }, `${__words} words\n`))
)
