// Answers with the target; writes what it has read to standard output.
package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
)

func main() {
	out := json.NewEncoder(os.Stdout)
	serve := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			// The server answers by itself; what was cut off is no request that anyone carries out.
			return
		}
		out.Encode(map[string]string{"m": r.Method, "u": r.RequestURI, "bh": hex.EncodeToString(body)})
		io.WriteString(w, r.RequestURI)
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(serve)))
}
