package web

// ParseJSON reads one JSON object of a body that holds many, as strictly as
// [ReadJSON] does, with the same errors.
func ParseJSON[T any](text []byte, v *T) error { return parseJSON(text, v) }
