// Fetches an address and prints the status and the answer: fetch URL [FILE WITH A TOKEN]
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	request, err := http.NewRequest(http.MethodGet, os.Args[1], nil)
	check(err)
	if len(os.Args) > 2 {
		token, err := os.ReadFile(os.Args[2])
		check(err)
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Transport: transport, Timeout: 20 * time.Second}
	answer, err := client.Do(request)
	check(err)
	body, err := io.ReadAll(answer.Body)
	check(err)
	fmt.Printf("%d %s", answer.StatusCode, body)
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
