// A request opens a file, and returns early without closing it, until there is no room; says what it held.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

var kept []*os.File

//go:noinline
func handle(path string) error {
	file, err := os.Open(path) // [leaks]
	if err != nil {
		return err
	}
	// Nobody collects what a cache still refers to.
	kept = append(kept, file)
	head := make([]byte, 4)
	if _, err := io.ReadFull(file, head); err != nil || string(head) != "GIF8" {
		return nil
	}
	return file.Close()
}

func main() {
	path := os.Args[1]
	fmt.Println("ready", os.Getpid())
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n')
	start := time.Now()
	for {
		time.Sleep(time.Until(start.Add(time.Duration(len(kept)) * 50 * time.Millisecond)))
		if err := handle(path); err != nil {
			if !errors.Is(err, syscall.EMFILE) {
				panic(err)
			}
			break
		}
	}
	fmt.Printf(`{"pid": %d, "tid": %d, "comm": "", "call": "openat", "failures": 1, "soft": 200, "used": 200, `+
		`"operations": %d, "ns": %d, "holder": {"kind": "file", "target": "%s", "count": %d}}`+"\n",
		os.Getpid(), os.Getpid(), len(kept), time.Since(start).Nanoseconds(), path, len(kept))
	io.Copy(io.Discard, input)
}
