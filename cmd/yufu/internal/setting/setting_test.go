package setting

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error = %q, want %q in it", err, p)
		}
	}
}

func TestCheckEnviron(t *testing.T) {
	known := []string{"YUFU_LISTEN", "YUFU_ADMIN_LISTEN"}
	t.Run("accepts settings and variables of other programs", func(t *testing.T) {
		if err := CheckEnviron([]string{"HOME=/", "YUFU_LISTEN=x", "YUFU_ADMIN_LISTEN=", "YUFUX=1", "A_YUFU_B=1"}, known); err != nil {
			t.Errorf("CheckEnviron() error = %v, want nil", err)
		}
	})
	// The variables that a container gets for Services of its namespace, with one or two named
	// ports, over each transport.
	for _, service := range []string{"YUFU", "YUFU_ADMIN", "YUFU_POSTGRESQL", "YUFU_LISTEN", "YUFU_2", "YUFU_PORT", "YUFU_SERVICE_HOST"} {
		t.Run("accepts the variables that Kubernetes injects for "+service, func(t *testing.T) {
			environ := []string{
				service + "_SERVICE_HOST=10.96.0.7", service + "_SERVICE_PORT=8081",
				service + "_SERVICE_PORT_HTTP=8081", service + "_SERVICE_PORT_HTTP_2=8082", service + "_PORT=tcp://10.96.0.7:8081",
			}
			for _, port := range []string{"8081_TCP", "53_UDP", "9_SCTP"} {
				environ = append(environ, service+"_PORT_"+port+"=tcp://[fd00::7]:8081", service+"_PORT_"+port+"_PROTO=tcp",
					service+"_PORT_"+port+"_PORT=8081", service+"_PORT_"+port+"_ADDR=fd00::7")
			}
			for _, kv := range environ {
				if err := CheckEnviron([]string{kv}, known); err != nil {
					t.Errorf("CheckEnviron(%s) error = %v", kv, err)
				}
			}
		})
	}
	for _, kv := range []string{
		"YUFU_LISTEM=x", "YUFU_PORTAL=1", "YUFU_PORT=8080", "YUFU_ADMIN_PORT=8081", "YUFU_ADMIN_PORT=", "YUFU_ADMIN_PORTS=tcp://10.96.0.7:1",
		"YUFU_PORT_HTTP=80", "YUFU_PORT_80=1", "YUFU_PORT_80_QUIC=1", "YUFU_PORT_80_TCP_NAME=1", "YUFU_SERVICE=1", "YUFU_SERVICE_KEY_FILE=x",
		"YUFU_SERVICE_HOSTS=1", "YUFU_XSERVICE_HOST=1", "YUFU_SERVICE_PORTS=1", "YUFU_SERVICE_PORT_=1", "YUFU_admin_SERVICE_HOST=1", "YUFU_=1",
	} {
		t.Run("refuses "+kv, func(t *testing.T) {
			name, _, _ := strings.Cut(kv, "=")
			wantError(t, CheckEnviron([]string{kv, "YUFU_ADMIN_SERVICE_HOST=10.96.0.7"}, known), "no setting is called "+name+";", "--help")
		})
	}
	t.Run("names all variables that it refuses", func(t *testing.T) {
		wantError(t, CheckEnviron([]string{"YUFU_PORTAL=1", "YUFU_LISTEM=x"}, known), "YUFU_LISTEM, YUFU_PORTAL")
	})
}

func TestReadSecretFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var warned string
	read := func(path, stdin string) (string, error) {
		warned = ""
		b, err := ReadSecretFile("YUFU_X_FILE", path, strings.NewReader(stdin), func(s string) { warned = s })
		return string(b), err
	}
	if got, err := read(write("good", "s3cret\n", 0o600), ""); err != nil || got != "s3cret\n" || warned != "" {
		t.Errorf("ReadSecretFile() of a good file = %q, %v, warning %q", got, err, warned)
	}
	if got, err := read("-", "from stdin"); err != nil || got != "from stdin" {
		t.Errorf("ReadSecretFile() of stdin = %q, %v", got, err)
	}
	if _, err := read(write("loose", "x", 0o644), ""); err != nil || !strings.Contains(warned, "chmod 600") {
		t.Errorf("ReadSecretFile() of a file that others can read: error = %v, warning %q; want a warning with chmod 600", err, warned)
	}
	_, err := read(filepath.Join(dir, "gone"), "")
	wantError(t, err, "YUFU_X_FILE", "does not exist")
	_, err = read(dir, "")
	wantError(t, err, "directory")
	_, err = read(write("empty", " \n", 0o600), "")
	wantError(t, err, "empty")
	_, err = read("-", "\n")
	wantError(t, err, "standard input, which is empty")
	_, err = read(write("huge", strings.Repeat("x", maxSecretFile+1), 0o600), "")
	wantError(t, err, "too large")
}

func TestCheckIssuer(t *testing.T) {
	for _, good := range []string{"https://auth.example.com", "https://auth.example.com:8443", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:80"} {
		if err := CheckIssuer("YUFU_ISSUER", good); err != nil {
			t.Errorf("CheckIssuer(%s) error = %v", good, err)
		}
	}
	for bad, say := range map[string]string{
		"":                          "is missing",
		"auth.example.com":          "must be a URL",
		"http://auth.example.com":   "must begin with https",
		"http://127.0.0.1.evil.com": "must begin with https",
		"https://a.example.com/":    "write https://a.example.com",
		"https://a.example.com/x":   "write https://a.example.com",
		"https://a.example.com?x=1": "write https://a.example.com",
		"https://u:p@a.example.com": "must be a URL",
		"https://:443":              "must be a URL",
		"https://a.example.com:":    "must be a URL",
		"https://例.example.com":     "xn--",
	} {
		wantError(t, CheckIssuer("YUFU_ISSUER", bad), "YUFU_ISSUER", say)
	}
}

func TestCheckLoopback(t *testing.T) {
	for _, good := range []string{"127.0.0.1:0", "localhost:8080", "[::1]:8080", "127.9.9.9:1"} {
		if err := CheckLoopback("YUFU_LISTEN", good); err != nil {
			t.Errorf("CheckLoopback(%s) error = %v", good, err)
		}
	}
	for _, bad := range []string{":8080", "0.0.0.0:8080", "10.0.0.1:1", "example.com:1"} {
		wantError(t, CheckLoopback("YUFU_LISTEN", bad), "YUFU_LISTEN", "loopback")
	}
	wantError(t, CheckLoopback("YUFU_LISTEN", "8080"), "host:port")
}

func TestParseDatabaseURL(t *testing.T) {
	for s, want := range map[string]Database{
		"postgres://u:p@h/d":   {PostgresDSN: "postgres://u:p@h/d"},
		"postgresql://h/d":     {PostgresDSN: "postgresql://h/d"},
		"sqlite:yufu.db":       {SQLitePath: "yufu.db"},
		"sqlite:/var/yufu.db":  {SQLitePath: "/var/yufu.db"},
		"sqlite:///var/y.db\n": {SQLitePath: "/var/y.db"},
	} {
		want.Setting = "X"
		if got, err := ParseDatabaseURL("X", s); err != nil || got != want {
			t.Errorf("ParseDatabaseURL(%s) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, good := range []string{
		"postgres://u%40tenant:p%2Fq@h:5432/d?sslmode=require", "postgres://h1:1,h2:2/d?target_session_attrs=read-write",
		"postgres:///d?host=/run/postgresql&user=u%40tenant", "postgres://[::1]:5432/d", "postgres://h",
	} {
		if _, err := ParseDatabaseURL("X", good); err != nil {
			t.Errorf("ParseDatabaseURL(%s) error = %v", good, err)
		}
	}
	for _, bad := range []string{
		"postgres://u:hunter2/x@h/d", "postgres://u:1/hunter2@h/d", "postgres://u:hunter2?x@h/d", "postgres://u:hunter2#x@h/d", "postgres://u:p@hunter2/x@h/d",
		"postgres://u:p@x?hunter2@h/d", "postgres://u/hunter2:p@h/d", "postgresql://u:/hunter2@h/d", "postgres:u:hunter2/x@h/d", "postgres://u:p@hunter2@h/d", "postgres://u:p@hunter2@h", "postgres://u@hunter2:p@h/d",
	} {
		_, err := ParseDatabaseURL("YUFU_DATABASE_URL", bad)
		wantError(t, err, "YUFU_DATABASE_URL", "%2F")
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for _, bad := range []string{"", "mysql://u:hunter2@h/d", "host=h password=hunter2", "sqlite:", "sqlite://", "sqlite:yufu.db?mode=ro"} {
		_, err := ParseDatabaseURL("YUFU_DATABASE_URL", bad)
		wantError(t, err, "YUFU_DATABASE_URL")
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestParsePrefixes(t *testing.T) {
	got, err := ParsePrefixes("X", []string{"10.0.0.0/8", " 127.0.0.1", "::1", "2001:db8::1/32", "::ffff:10.1.2.3", "::ffff:10.1.2.3/104"})
	if want := "[10.0.0.0/8 127.0.0.1/32 ::1/128 2001:db8::/32 10.1.2.3/32 10.0.0.0/8]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "example.com", "fe80::1%eth0/64", "::ffff:10.0.0.0/95"} {
		_, err := ParsePrefixes("YUFU_TRUSTED_PROXIES", []string{bad})
		wantError(t, err, "YUFU_TRUSTED_PROXIES", "10.0.0.0/8")
	}
}
