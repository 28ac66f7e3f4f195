// The API overview, followed with net/http.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"os"
	"strconv"
	"time"
)

// An answer, in the documented shapes.
type answer struct {
	Success   bool           `json:"success"`
	Data      map[string]any `json:"data"`
	Message   string         `json:"message"`
	Timestamp time.Time      `json:"timestamp"`
	Access    string         `json:"access"`
	Error     struct {
		Code    string              `json:"code"`
		Details map[string][]string `json:"details"`
	} `json:"error"`
	Count    int              `json:"count"`
	Next     string           `json:"next"`
	Previous string           `json:"previous"`
	Results  []map[string]any `json:"results"`

	status int
	header http.Header
}

func send(method, path, token string, body any) answer {
	var buffer bytes.Buffer
	if body != nil {
		check(json.NewEncoder(&buffer).Encode(body) == nil, "encode")
	}
	request, err := http.NewRequest(method, os.Getenv("CRYPTOPAY_URL")+path, &buffer)
	check(err == nil, "%v", err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	check(err == nil, "%v", err)
	defer response.Body.Close()
	found := answer{status: response.StatusCode, header: response.Header}
	err = json.NewDecoder(response.Body).Decode(&found)
	check(err == nil, "%s %s: %v", method, path, err)
	return found
}

func main() {
	key := os.Getenv("CRYPTOPAY_KEY")
	get := func(path string) answer { return send("GET", path, key, nil) }

	login := send("POST", "/api/auth/login", "", map[string]any{
		"username": os.Getenv("CRYPTOPAY_USERNAME"),
		"password": os.Getenv("CRYPTOPAY_PASSWORD"),
	})
	succeeds(login, 200)
	succeeds(send("GET", "/api/payment-orders/", login.Access, nil), 200)

	info, _ := json.Marshal(map[string]any{"product": "Premium Plan"})
	extra, _ := rand.Int(rand.Reader, big.NewInt(1000000))
	created := send("POST", "/api/payment-orders/", key, map[string]any{
		"amount":     "100.00",
		"currency":   "USDC",
		"blockchain": "base",
		"order_info": string(info),
		"nonce":      time.Now().UnixMilli() + extra.Int64(),
	})
	order := succeeds(created, 201)
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		_, err := strconv.ParseInt(created.header.Get(name), 10, 64)
		check(err == nil, "%s: %v", name, err)
	}
	same := succeeds(get(fmt.Sprintf("/api/payment-orders/%.0f/", order["id"])), 200)
	check(same["order_id"] == order["order_id"], "the same order")

	page := get("/api/payment-orders/?page=2&page_size=50")
	check(page.Count >= 150 && len(page.Results) == 50, "a page")
	check(page.Next == "/api/payment-orders/?page=3&page_size=50", "next: %s", page.Next)
	check(page.Previous == "/api/payment-orders/?page=1&page_size=50", "previous: %s", page.Previous)

	transactions := get("/api/transactions/").Results
	succeeds(get(fmt.Sprintf("/api/transactions/%s/", transactions[0]["transaction_hash"])), 200)

	random := make([]byte, 20)
	_, err := rand.Read(random)
	check(err == nil, "%v", err)
	address := "0x" + hex.EncodeToString(random)
	wallet := succeeds(send("POST", "/api/merchant-wallets/", key, map[string]any{"blockchain": "polygon", "address": address}), 201)
	check(len(get("/api/merchant-wallets/").Results) > 0, "wallets")
	change := map[string]any{"address": address, "label": "mine"}
	succeeds(send("PUT", fmt.Sprintf("/api/merchant-wallets/%.0f/", wallet["id"]), key, change), 200)

	url := "https://shop.example/hook"
	events := []string{"payment.confirmed"}
	endpoint := succeeds(send("POST", "/api/webhook-endpoints/", key, map[string]any{"url": url, "events": events}), 201)
	check(len(get("/api/webhook-endpoints/").Results) > 0, "endpoints")
	change = map[string]any{"url": url, "is_active": false}
	succeeds(send("PUT", fmt.Sprintf("/api/webhook-endpoints/%.0f/", endpoint["id"]), key, change), 200)

	refused := send("POST", "/api/payment-orders/", key, map[string]any{"amount": "much"})
	fails(refused, 400, "VALIDATION_ERROR")
	check(len(refused.Error.Details["currency"]) > 0, "details")
	fails(send("GET", "/api/payment-orders/", "", nil), 401, "AUTHENTICATION_REQUIRED")
	fails(get("/api/payment-orders/ORD-000000000000/"), 404, "NOT_FOUND")
}

func succeeds(found answer, status int) map[string]any {
	check(found.status == status && found.Success, "%+v", found)
	check(found.Message != "" && !found.Timestamp.IsZero(), "%+v", found)
	return found.Data
}

func fails(found answer, status int, code string) {
	check(found.status == status && !found.Success && found.Error.Code == code, "%+v", found)
}

func check(holds bool, format string, values ...any) {
	if !holds {
		log.Fatalf(format, values...)
	}
}
