package wechatsim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
)

// A test starts the simulator, gets a code for a user, and makes a call fail.
func Example() {
	const app = "wx0123456789abcdef"
	sim := wechatsim.New(wechatsim.Config{Apps: map[string]string{app: "the AppSecret"}})
	server := httptest.NewServer(sim.Handler())
	defer server.Close()

	// exchange redeems a code from wx.login, as a back end does.
	exchange := func(code string) {
		query := url.Values{"appid": {app}, "secret": {"the AppSecret"}, "js_code": {code}, "grant_type": {"authorization_code"}}
		res, err := http.Get(server.URL + "/sns/jscode2session?" + query.Encode())
		if err != nil {
			fmt.Println(err)
			return
		}
		defer res.Body.Close()
		var answer struct {
			OpenID  string `json:"openid"`
			Errcode int    `json:"errcode"`
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("errcode", answer.Errcode, "alice:", answer.OpenID == wechatsim.OpenID(app, "alice"))
	}

	code := sim.NewCode("alice")
	if err := sim.AddFault(wechatsim.Fault{Errcode: -1}); err != nil {
		fmt.Println(err)
		return
	}
	exchange(code) // the system is busy, and the code stays fresh
	exchange(code)
	exchange(code) // a code works once
	fmt.Println("calls:", len(sim.Calls()))
	// Output:
	// errcode -1 alice: false
	// errcode 0 alice: true
	// errcode 40163 alice: false
	// calls: 3
}
