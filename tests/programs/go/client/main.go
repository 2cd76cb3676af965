// Calls a server with net/http over TLS, with HTTP/1.1 or HTTP/2, on one connection that is kept, and prints one JSON line
// per call, as python/client_openai.py does.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

var (
	base   = flag.String("base-url", "", "for example https://127.0.0.1:8000/v1")
	ca     = flag.String("ca", "", "authority to trust")
	model  = flag.String("model", "inferscope-test-model", "")
	prompt = flag.String("prompt", "Say a few words.", "")
	large  = flag.Int("prompt-words", 0, "this many words instead of the prompt")
	stream = flag.Bool("stream", false, "")
	calls  = flag.Int("calls", 1, "")
	http2  = flag.Bool("http2", false, "HTTP/2 instead of HTTP/1.1")
	gate   = flag.Int("gate", -1, "wait for a line on standard input before the call of this number, and for another one before the end")
)

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

type answer struct {
	ID      *string `json:"id"`
	Model   *string `json:"model"`
	Usage   *usage  `json:"usage"`
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
}

type report struct {
	I         int      `json:"i"`
	Status    int      `json:"status"`
	ID        *string  `json:"id"`
	Model     *string  `json:"model"`
	Chunks    *int     `json:"chunks"`
	Usage     *usage   `json:"usage"`
	Finish    []string `json:"finish"`
	ToolCalls []string `json:"tool_calls"`
	Error     *string  `json:"error"`
	End       string   `json:"end"`
}

func (r *report) take(data []byte) error {
	var part answer
	if err := json.Unmarshal(data, &part); err != nil {
		return err
	}
	if r.ID == nil {
		r.ID, r.Model = part.ID, part.Model
	}
	if part.Usage != nil {
		r.Usage = part.Usage
	}
	for _, choice := range part.Choices {
		if choice.Delta.Content != "" && r.Chunks != nil {
			*r.Chunks++
		}
		if choice.FinishReason != nil {
			r.Finish = append(r.Finish, *choice.FinishReason)
		}
	}
	return nil
}

func (r *report) read(body io.Reader) error {
	if r.Chunks == nil {
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		r.End = "done"
		return r.take(data)
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data := strings.TrimPrefix(lines.Text(), "data: ")
		if data == "[DONE]" {
			r.End = "done"
		} else if data != "" {
			if err := r.take([]byte(data)); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func call(client *http.Client, i int) {
	text := *prompt
	if *large > 0 {
		text = strings.Repeat("word ", *large)
	}
	asked := map[string]interface{}{
		"model":    *model,
		"messages": []map[string]string{{"role": "user", "content": text}},
		"stream":   *stream,
	}
	r := report{I: i, Finish: []string{}, ToolCalls: []string{}, End: "broken"}
	if *stream {
		asked["stream_options"] = map[string]bool{"include_usage": true}
		r.Chunks = new(int)
	}
	body, err := json.Marshal(asked)
	if err == nil {
		var response *http.Response
		response, err = client.Post(*base+"/chat/completions", "application/json", bytes.NewReader(body))
		if err == nil {
			r.Status = response.StatusCode
			err = r.read(response.Body)
			response.Body.Close()
		}
	}
	if err != nil {
		what := err.Error()
		r.Error = &what
	}
	line, _ := json.Marshal(r)
	fmt.Println(string(line))
}

func main() {
	flag.Parse()
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: *http2}
	if !*http2 {
		// A map that is there and empty switches HTTP/2 off.
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	client := &http.Client{Transport: transport}
	lines := bufio.NewReader(os.Stdin)
	for i := 0; i < *calls; i++ {
		if i == *gate {
			lines.ReadString('\n')
		}
		call(client, i)
	}
	if *gate >= 0 {
		lines.ReadString('\n')
	}
	transport.CloseIdleConnections()
}
