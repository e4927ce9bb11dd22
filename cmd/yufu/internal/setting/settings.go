package setting

import "time"

// The structs below hold every setting of the program: name, variable, default, bounds and
// help, in the tags that the command line is parsed by. A command embeds the structs that it
// uses.
//
// Bounds are the tags min and max, both inclusive, and unit: a value must be a multiple of
// it. The tag zero allows 0 as well. [CheckBounds] checks them, [Help]
// and the settings pages of the guide show them.

// Listeners are the addresses of the two listeners.
type Listeners struct {
	Listen      string `env:"YUFU_LISTEN" default:"127.0.0.1:8080" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of the public API."`
	AdminListen string `env:"YUFU_ADMIN_LISTEN" default:"127.0.0.1:8081" group:"Listeners:" placeholder:"HOST:PORT" help:"Address of the admin API, health checks and metrics. Keep it private."`
}

// PublicAddress is the address by which clients reach the service.
type PublicAddress struct {
	Issuer string `env:"YUFU_ISSUER" group:"Listeners:" placeholder:"URL" help:"Public address of this service: https, without a path, for example https://auth.example.com. Every token contains it."`
}

// Proxies are the proxies whose X-Forwarded-For is trusted.
type Proxies struct {
	TrustedProxies      []string `env:"YUFU_TRUSTED_PROXIES" group:"Listeners:" placeholder:"CIDR" help:"Networks of the proxies in front of the public listener, separated by commas, for example 10.0.0.0/8. Yufu believes their X-Forwarded-For. Without this setting, limits count a proxy as one client."`
	AdminTrustedProxies []string `env:"YUFU_ADMIN_TRUSTED_PROXIES" group:"Listeners:" placeholder:"CIDR" help:"Networks of the proxies in front of the admin listener, separated by commas."`
}

// ForwardAuth holds the settings of /v1/verify.
type ForwardAuth struct {
	VerifyCookie string `env:"YUFU_VERIFY_COOKIE" group:"Listeners:" placeholder:"NAME" help:"Cookie from which /v1/verify takes the access token of a request without an Authorization header. For programs that still send Cookie: JSESSIONID=…. Requests of browsers are refused. Without this setting, no cookie is read."`
}

// Lifetimes are the lifetimes of tokens and sessions, and the maximum age of revocation data.
type Lifetimes struct {
	AccessTokenTTL time.Duration `name:"access-token-ttl" env:"YUFU_ACCESS_TOKEN_TTL" default:"10m" min:"1s" max:"1h" group:"Lifetimes:" placeholder:"DURATION" help:"Lifetime of an access token."`
	RefreshGrace   time.Duration `env:"YUFU_REFRESH_GRACE" default:"60s" min:"0s" max:"10m" group:"Lifetimes:" placeholder:"DURATION" help:"Time after a refresh during which the used refresh token still yields the same successor. A client that sends it later loses the session."`
	SessionIdleTTL time.Duration `name:"session-idle-ttl" env:"YUFU_SESSION_IDLE_TTL" default:"720h" min:"1s" max:"43800h" group:"Lifetimes:" placeholder:"DURATION" help:"Lifetime of a session that is not refreshed."`
	SessionMax
	MaxStaleness time.Duration `env:"YUFU_MAX_STALENESS" default:"30s" min:"10s" max:"5m" group:"Lifetimes:" placeholder:"DURATION" help:"Maximum age of revocation data. A validator whose data is older rejects all tokens."`
}

// SessionMax is the absolute lifetime of a session.
type SessionMax struct {
	SessionMaxTTL time.Duration `name:"session-max-ttl" env:"YUFU_SESSION_MAX_TTL" default:"4320h" min:"1s" max:"43800h" group:"Lifetimes:" placeholder:"DURATION" help:"Lifetime of a session, however often it is refreshed."`
}

// Rotation holds the settings of key rotation.
type Rotation struct {
	KeyRotation time.Duration `env:"YUFU_KEY_ROTATION" default:"720h" min:"1h" zero:"yes" group:"Lifetimes:" placeholder:"DURATION" help:"Time for which a key signs tokens before the next key takes over. 0 turns this off: use yufu keys rotate."`
	JWKS
}

// JWKS holds the settings of the JWK set.
type JWKS struct {
	JWKSMaxAge time.Duration `name:"jwks-max-age" env:"YUFU_JWKS_MAX_AGE" default:"5m" min:"1s" max:"24h" unit:"1s" group:"Lifetimes:" placeholder:"DURATION" help:"Time for which back ends may keep a copy of the JWK set, as its Cache-Control says. A new key is published for longer than this before it signs. Commands use the value of the running service if that is longer."`
}

// Limits holds the limits for clients.
type Limits struct {
	ExchangeFailureLimit int  `env:"YUFU_EXCHANGE_FAILURE_LIMIT" default:"120" min:"0" max:"1000000" group:"Limits:" placeholder:"N" help:"Failed log-ins a minute, per app, client network (an IPv4 address or an IPv6 /64) and replica. Above the limit, one log-in a second is still tried. 0 means no limit."`
	ExchangeSuccessLimit int  `env:"YUFU_EXCHANGE_SUCCESS_LIMIT" default:"6000" min:"0" max:"1000000" group:"Limits:" placeholder:"N" help:"Log-ins a minute, per app, client network and replica. Above the limit, one log-in a second is still tried. 0 means no limit. Keep it high: a carrier puts thousands of phones behind one address."`
	SessionLimit         int  `env:"YUFU_SESSION_LIMIT" default:"50" min:"0" max:"1000" group:"Limits:" placeholder:"N" help:"Live sessions of one identity. One more log-in ends the oldest session. 0 means no limit."`
	PlatformConcurrency  int  `env:"YUFU_PLATFORM_CONCURRENCY" default:"128" min:"1" max:"100000" group:"Limits:" placeholder:"N" help:"Concurrent calls to WeChat, per replica."`
	MaxConnections       int  `env:"YUFU_MAX_CONNECTIONS" default:"10000" min:"1" max:"1000000" group:"Limits:" placeholder:"N" help:"Concurrent connections to the public listener. One more closes the connection that has been idle longest. A client network may have half of them, a trusted proxy all."`
	TokenMemory          Size `env:"YUFU_TOKEN_MEMORY" default:"64MiB" min:"1MiB" max:"1GiB" group:"Limits:" placeholder:"SIZE" help:"Memory for verified access tokens, per replica. It grows as it is needed, and takes a little more while it grows; a token takes about 100 bytes. The signature of a token that has no place is checked at each request."`
}

// Storage is the place where the data is stored.
type Storage struct {
	DatabaseURL     string `env:"YUFU_DATABASE_URL" group:"Database and keys:" placeholder:"URL" help:"Database: postgres://user:password@host/database (PostgreSQL 14 or newer; several hosts allowed), or sqlite:PATH."`
	DatabaseURLFile string `env:"YUFU_DATABASE_URL_FILE" group:"Database and keys:" placeholder:"FILE" help:"File with the database URL, or - for standard input. Use it to keep the password out of the environment."`
}

// MasterKey is the file of the master keys.
type MasterKey struct {
	MasterKeyFile string `env:"YUFU_MASTER_KEY_FILE" group:"Database and keys:" placeholder:"FILE" help:"File of the master keys, which encrypt secrets in the database: 32 bytes each in base64, one a line. The first encrypts, all decrypt. Make one with: openssl rand -base64 32."`
}

// Migration is whether the service migrates its database.
type Migration struct {
	Migrate bool `env:"YUFU_MIGRATE" group:"Database and keys:" help:"Bring the database schema up to date first. Several replicas may do so at once."`
}

// Log holds the level and the format of the log.
type Log struct {
	LogLevel string `env:"YUFU_LOG_LEVEL" default:"info" group:"Operation:" placeholder:"LEVEL" help:"Lowest level that is logged: debug, info, warn or error."`
	// If LogFormat is empty, serve logs json and all other commands text.
	LogFormat string `env:"YUFU_LOG_FORMAT" group:"Operation:" placeholder:"FORMAT" help:"Format of the log: json or text. Without this setting, serve logs json, and every other command text."`
}

// LevelFile is the file of the log level, which can change while the service runs.
type LevelFile struct {
	LogLevelFile string `env:"YUFU_LOG_LEVEL_FILE" group:"Operation:" placeholder:"FILE" help:"File with the log level, instead of YUFU_LOG_LEVEL. It is read again on SIGHUP."`
}

// Shutdown bounds the drain.
type Shutdown struct {
	ShutdownTimeout time.Duration `env:"YUFU_SHUTDOWN_TIMEOUT" default:"15s" min:"1ms" group:"Operation:" placeholder:"DURATION" help:"Time that requests in flight may take after the shutdown delay."`
}

// Delay is the time for which a replica serves after SIGTERM.
type Delay struct {
	ShutdownDelay time.Duration `env:"YUFU_SHUTDOWN_DELAY" default:"5s" min:"0s" max:"1h" group:"Operation:" placeholder:"DURATION" help:"Time to serve after SIGTERM, before the drain, while /readyz answers 503. Choose more than your load balancers need to notice."`
}

// UnsafePlatforms replace the addresses of platforms.
type UnsafePlatforms struct {
	UnsafeWechatURL string `name:"unsafe-wechat-url" env:"YUFU_UNSAFE_WECHAT_URL" group:"Unsafe:" placeholder:"URL" help:"Address to call instead of WeChat's, for tests against a simulator. The server there sees every AppSecret and decides who logs in."`
}

// Webhooks restrict which webhooks may be called.
type Webhooks struct {
	WebhookNetworks []string `env:"YUFU_WEBHOOK_NETWORKS" group:"Webhooks:" placeholder:"CIDR" help:"Private networks in which webhooks may be called, separated by commas, for example 10.1.0.0/16. Yufu checks the address that it connects to."`
	WebhookHosts    []string `env:"YUFU_WEBHOOK_HOSTS" group:"Webhooks:" placeholder:"HOST" help:"Hosts on which webhooks may be called, separated by commas, for example hr.example.com or *.example.com. All others are refused. Without this setting, any host."`
}

// Simulator is the address of the WeChat simulator.
type Simulator struct {
	SimListen string `env:"YUFU_SIM_LISTEN" default:"127.0.0.1:8082" placeholder:"HOST:PORT" help:"Address of the WeChat simulator, on loopback."`
}

// Folder is the folder in which yufu dev keeps its data.
type Folder struct {
	DataDir string `env:"YUFU_DATA_DIR" default:".yufu" type:"path" placeholder:"DIR" help:"Folder for the database, the generated master key and an admin key."`
}

// AdminAPI is the address of the admin API, and the service key for it.
type AdminAPI struct {
	AdminURL     string `env:"YUFU_ADMIN_URL" default:"http://127.0.0.1:8081" group:"Admin API:" placeholder:"URL" help:"Address of the admin API."`
	AdminKeyFile string `env:"YUFU_ADMIN_KEY_FILE" group:"Admin API:" placeholder:"FILE" help:"File with a service key for the admin API, as yufu service-key create prints it. yufu dev keeps one in .yufu/admin.key."`
}
