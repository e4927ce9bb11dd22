package gate

// ParseRequirements is parseRequirements for tests.
func ParseRequirements(query string) (audience, app string, bound bool, err error) {
	d, err := parseRequirements(query)
	return d.audience, d.app, d.bound, err
}
