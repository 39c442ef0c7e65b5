pipy()
.listen(8080)
.serveHTTP(new Message('Hi, I am v1!\n'))
