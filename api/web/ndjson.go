package web

// ParseJSON reads one JSON object from a body with many, as strictly as [ReadJSON] and
// with the same errors.
func ParseJSON[T any](text []byte, v *T) error { return parseJSON(text, v) }
