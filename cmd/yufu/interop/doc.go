// Package interop tests Yufu with Go libraries of other projects: they verify its access
// tokens, refresh and revoke sessions, and introspect tokens. The tests build the program,
// run yufu dev on loopback and log users in through its simulator of WeChat.
//
// It is a module of its own, so that the module of Yufu does not depend on these libraries.
// go test does not see when the program changes, so run it without cached results:
//
//	go test -count=1 ./...
package interop
