// Verify a CloudArc webhook. Use one of the two functions, on the body's raw bytes, before parsing them.
//
//	WEBHOOK_SECRET=whsec_… go run verify.go ID TIMESTAMP SIGNATURE < body    checks the headers
//	WEBHOOK_SECRET=whsec_… go run verify.go < body                           checks the body's signature
//
// The exit status is 0 if the delivery is genuine, else 1.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tolerance = 5 * 60
	tail      = 87 // the length of ,"signature":"sha256=…"}
)

// VerifyHeaders checks webhook-id, webhook-timestamp and webhook-signature. A delivery that is replayed
// later fails.
func VerifyHeaders(secret, id, timestamp, signatures string, body []byte) bool {
	sent, err := strconv.ParseUint(timestamp, 10, 62)
	age := time.Now().Unix() - int64(sent)
	if err != nil || age > tolerance || age < -tolerance {
		return false
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac(secret, signed))
	// While a secret is rotated there are two signatures.
	for _, each := range strings.Split(signatures, " ") {
		if hmac.Equal([]byte(each), []byte(expected)) {
			return true
		}
	}
	return false
}

// VerifyBody checks the member "signature": it signs the body without its tail, and with the brace put back.
func VerifyBody(secret string, body []byte) bool {
	if len(body) < tail {
		return false
	}
	cut := len(body) - tail
	base := append(append([]byte{}, body[:cut]...), '}')
	expected := `,"signature":"sha256=` + hex.EncodeToString(mac(secret, base)) + `"}`
	return hmac.Equal(body[cut:], []byte(expected))
}

func mac(secret string, signed []byte) []byte {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) != 36 { // above all, a secret that is missing must not become an empty key
		panic("this is not a webhook secret")
	}
	hash := hmac.New(sha256.New, key)
	hash.Write(signed)
	return hash.Sum(nil)
}

func main() {
	secret := os.Getenv("WEBHOOK_SECRET")
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	genuine := false
	if len(os.Args) == 4 {
		genuine = VerifyHeaders(secret, os.Args[1], os.Args[2], os.Args[3], body)
	} else {
		genuine = VerifyBody(secret, body)
	}
	if !genuine {
		os.Exit(1)
	}
}
