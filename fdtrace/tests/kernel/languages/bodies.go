// Asks a server over HTTP and never closes the answers' bodies, until there is no room; says what it held.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"
)

var kept []*http.Response

//go:noinline
func fetch(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	kept = append(kept, answer)
	return nil
}

func main() {
	address := os.Args[1]
	client := &http.Client{Transport: &http.Transport{}}
	fmt.Println("ready", os.Getpid())
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n')
	start := time.Now()
	for {
		time.Sleep(time.Until(start.Add(time.Duration(len(kept)) * 50 * time.Millisecond)))
		if err := fetch(client, "http://"+address+"/"); err != nil {
			if !errors.Is(err, syscall.EMFILE) {
				panic(err)
			}
			break
		}
	}
	fmt.Printf(`{"pid": %d, "tid": %d, "comm": "", "call": "socket", "failures": 1, "soft": 200, "used": 200, `+
		`"operations": %d, "ns": %d, "holder": {"kind": "tcp", "target": "%s", "count": %d}}`+"\n",
		os.Getpid(), os.Getpid(), len(kept), time.Since(start).Nanoseconds(), address, len(kept))
	io.Copy(io.Discard, input)
}
