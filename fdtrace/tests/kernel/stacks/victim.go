// Leaks files from one line of code, as Go programs do: on a stack of its own, through the os package.
//
// victim COUNT: opens COUNT files and says so, and waits until its standard input ends. The tests look for the
// lines that end in a name in brackets.
package main

import (
	"io"
	"os"
	"strconv"
)

var kept []*os.File

// Small enough to be inlined, and to be shown all the same.
func openQuietly(path string) (*os.File, error) {
	return os.Open(path) // [opens]
}

//go:noinline
func leakOne(path string) error {
	file, err := openQuietly(path) // [leaks]
	if err != nil {
		return err
	}
	kept = append(kept, file)
	return nil
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() {
		for turn := 0; turn < count; turn++ {
			if err := leakOne("/dev/null"); err != nil { // [calls]
				done <- err
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		panic(err)
	}
	os.Stdout.WriteString("ready\n")
	io.Copy(io.Discard, os.Stdin)
}
