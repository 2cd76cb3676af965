// The model server of the tests in Go: net/http over TLS, with HTTP/1.1 or HTTP/2. It follows the rules of python/canned.py for chat
// without tools, and prints "ready PORT" when it listens.
package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

var words = []string{"zephyrine", "words", "from", "a", "tin,", "served", "at", "a", "steady", "pace;"}

var (
	cert     = flag.String("cert", "", "certificate file")
	key      = flag.String("key", "", "its key")
	chunks   = flag.Int("chunks", 12, "content chunks of an answer")
	interval = flag.Float64("interval-ms", 2, "between two of them")
	http2    = flag.Bool("http2", false, "HTTP/2 too")
	first    = flag.Float64("first-token-ms", 5, "before the first")
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type request struct {
	Model         string    `json:"model"`
	Messages      []message `json:"messages"`
	Stream        bool      `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type object map[string]interface{}

func pause(ms float64) {
	time.Sleep(time.Duration(ms * float64(time.Millisecond)))
}

func chat(w http.ResponseWriter, r *http.Request) {
	var asked request
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	prompt := 0
	for _, message := range asked.Messages {
		prompt += len(strings.Fields(message.Content))
	}
	random := make([]byte, 12)
	rand.Read(random)
	id := "chatcmpl-" + hex.EncodeToString(random)
	usage := object{"prompt_tokens": prompt, "completion_tokens": *chunks, "total_tokens": prompt + *chunks}
	head := func(kind string) object {
		return object{"id": id, "object": kind, "created": 1700000000, "model": asked.Model}
	}
	if !asked.Stream {
		text := ""
		for i := 0; i < *chunks; i++ {
			text += words[i%len(words)] + " "
		}
		answer := head("chat.completion")
		content := object{"role": "assistant", "content": text}
		answer["choices"] = []object{{"index": 0, "message": content, "finish_reason": "stop"}}
		answer["usage"] = usage
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(choices []object, usage interface{}) {
		event := head("chat.completion.chunk")
		event["choices"] = choices
		if asked.StreamOptions.IncludeUsage {
			event["usage"] = usage
		}
		data, _ := json.Marshal(event)
		fmt.Fprintf(w, "data: %s\n\n", data)
		w.(http.Flusher).Flush()
	}
	delta := func(delta object, finish interface{}) []object {
		return []object{{"index": 0, "delta": delta, "finish_reason": finish}}
	}
	send(delta(object{"role": "assistant", "content": ""}, nil), nil)
	pause(*first)
	for i := 0; i < *chunks; i++ {
		if i > 0 {
			pause(*interval)
		}
		send(delta(object{"content": words[i%len(words)] + " "}, nil), nil)
	}
	send(delta(object{}, "stop"), nil)
	if asked.StreamOptions.IncludeUsage {
		send([]object{}, usage)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func main() {
	flag.Parse()
	http.HandleFunc("/v1/chat/completions", chat)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("ready %d\n", listener.Addr().(*net.TCPAddr).Port)
	server := http.Server{}
	if !*http2 {
		// A map that is there and empty switches HTTP/2 off.
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	log.Fatal(server.ServeTLS(listener, *cert, *key))
}
