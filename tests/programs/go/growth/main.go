// Many goroutines at once whose stacks grow and are copied while they are inside TLS: each makes its calls from ever deeper
// recursions, so that Read and Write begin now with room and now without. Server and clients are this process. It checks every
// answer, begins when there is a line on standard input, and prints at its end how many answers there were.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var (
	cert       = flag.String("cert", "", "certificate file")
	key        = flag.String("key", "", "its key")
	ca         = flag.String("ca", "", "authority to trust")
	goroutines = flag.Int("goroutines", 1000, "")
	seconds    = flag.Float64("seconds", 20, "how long to go on")
	pause      = flag.Duration("pause", time.Second, "between two calls of one goroutine")
)

// What a call is: a chat request and its answer, as short as they can be and still be a model's.
const (
	question = `{"model":"inferscope-test-model","messages":[{"role":"user","content":"%s"}]}`
	response = `{"id":"chatcmpl-%s","object":"chat.completion","created":1,"model":"inferscope-test-model","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
)

// Calls do from n frames deeper than here. Each frame has half a kilobyte.
//
//go:noinline
func deeper(n int, do func() error) error {
	var room [512]byte
	room[n%len(room)] = byte(n)
	if n == 0 {
		return do()
	}
	err := deeper(n-1, do)
	if room[n%len(room)] != byte(n) {
		log.Fatal("the stack is not what it was")
	}
	return err
}

// A reader and writer that does everything from some depth, another one each time.
type deep struct {
	conn  net.Conn
	turn  int
	depth int
}

func (d *deep) next() int {
	d.turn++
	return d.turn * 7 % d.depth
}

func (d *deep) Read(buffer []byte) (n int, err error) {
	deeper(d.next(), func() error {
		n, err = d.conn.Read(buffer)
		return nil
	})
	return
}

func (d *deep) Write(buffer []byte) (n int, err error) {
	deeper(d.next(), func() error {
		n, err = d.conn.Write(buffer)
		return nil
	})
	return
}

// Reads a message with a Content-Length: its first line and its body.
func message(r *bufio.Reader) (first string, body []byte, err error) {
	first, err = r.ReadString('\n')
	length := 0
	for err == nil {
		var line string
		line, err = r.ReadString('\n')
		if line == "\r\n" {
			break
		}
		if name := "Content-Length: "; len(line) > len(name) && line[:len(name)] == name {
			length, err = strconv.Atoi(line[len(name) : len(line)-2])
		}
	}
	if err == nil {
		body = make([]byte, length)
		_, err = io.ReadFull(r, body)
	}
	return
}

func serve(conn net.Conn, number int) {
	defer conn.Close()
	// A new goroutine for every connection: it begins with the smallest stack.
	d := &deep{conn: conn, turn: number, depth: 61}
	r := bufio.NewReaderSize(d, 512)
	for {
		_, body, err := message(r)
		if err != nil {
			return
		}
		at := bytes.Index(body, []byte(`content":"`)) + len(`content":"`)
		end := bytes.IndexByte(body[at:], '"')
		answer := fmt.Sprintf(response, body[at:at+end])
		fmt.Fprintf(d, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
}

func work(address string, config *tls.Config, number int, until time.Time, answered *int64) error {
	// All would otherwise begin at once, with a handshake.
	time.Sleep(*pause * time.Duration(number) / time.Duration(*goroutines))
	for round := 0; time.Now().Before(until); round++ {
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		d := &deep{conn: conn, turn: number + round, depth: 89}
		r := bufio.NewReaderSize(d, 256)
		for call := 0; call < 8 && time.Now().Before(until); call++ {
			id := fmt.Sprintf("%d-%d-%d", number, round, call)
			body := fmt.Sprintf(question, id)
			_, err := fmt.Fprintf(d, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if err != nil {
				return err
			}
			first, got, err := message(r)
			if err != nil {
				return err
			}
			if first != "HTTP/1.1 200 OK\r\n" || string(got) != fmt.Sprintf(response, id) {
				return fmt.Errorf("%s: %q %q", id, first, got)
			}
			atomic.AddInt64(answered, 1)
			time.Sleep(*pause)
		}
		conn.Close()
	}
	return nil
}

func main() {
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for number := 0; ; number++ {
			conn, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go serve(conn, number)
		}
	}()
	var answered int64
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	until := time.Now().Add(time.Duration(*seconds * float64(time.Second)))
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	var all sync.WaitGroup
	for number := 0; number < *goroutines; number++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			if err := work(listener.Addr().String(), config, number, until, &answered); err != nil {
				log.Fatal(err)
			}
		}(number)
	}
	all.Wait()
	fmt.Printf("answered %d\n", answered)
}
