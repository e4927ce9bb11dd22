package gate

// ParseDemands is parseDemands, and what it has read.
func ParseDemands(query string) (audience, app string, bound bool, err error) {
	d, err := parseRequirements(query)
	return d.audience, d.app, d.bound, err
}
