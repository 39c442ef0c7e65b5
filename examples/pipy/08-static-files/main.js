// A server of files: what is in FOLDER, with types, compression for those who take it, and a page for what is not there.
const folder = os.env.FOLDER ?? os.path.join(os.path.dirname(pipy.argv[0] ?? ''), 'public');
const files = new http.Directory(folder, { fs: true, index: ['index.html'] });
const missing = () => files.serve(new Message({ method: 'GET', path: '/404.html' }));

pipy.listen(os.env.PORT ?? 8080, $ => $
  .serveHTTP(request => {
    if (!['GET', 'HEAD'].includes(request.head.method)) {
      return new Message({ status: 405, headers: { allow: 'GET, HEAD' } }, 'Only GET and HEAD\n');
    }
    const found = files.serve(request);
    if (found) return found;
    const page = missing();
    return page ? new Message({ ...page.head, status: 404 }, page.body) : new Message({ status: 404 }, 'Not found\n');
  })
);
