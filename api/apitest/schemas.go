package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the document's schemas of bodies, by their references. They are
// compiled once: openapi3filter compiles them for every value, which takes
// milliseconds, and load tests use this package too.
type schemas map[string]*jsonschema.Schema

func compile(doc *openapi3.T) (schemas, error) {
	const address = "openapi.json"
	asJSON, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(address, resource); err != nil {
		return nil, err
	}
	all := schemas{}
	for name := range doc.Components.Schemas {
		ref := "#/components/schemas/" + name
		if all[ref], err = compiler.Compile(address + ref); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// request checks the body of a request against an operation.
func (s schemas) request(o *openapi3.Operation, contentType string, body []byte) error {
	if o.RequestBody == nil {
		if len(body) > 0 {
			return fmt.Errorf("the request has a body of %d bytes, the document has no body", len(body))
		}
		return nil
	}
	if !o.RequestBody.Value.Required && contentType == "" && len(body) == 0 {
		return nil
	}
	media := o.RequestBody.Value.Content.Get(contentType)
	if media == nil {
		return fmt.Errorf("the Content-Type %q is not in the document", contentType)
	}
	if strings.HasPrefix(contentType, "application/x-ndjson") {
		return nil // each line may be refused separately
	}
	if !strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
		return s.json(media, body)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return err
	}
	members := map[string]any{}
	for name, values := range form {
		switch {
		case len(values) > 1:
			return fmt.Errorf("the form repeats the parameter %s", name)
		case values[0] != "": // a parameter without a value counts as absent (RFC 6749 §3.2)
			members[name] = values[0]
		}
	}
	return s.validate(media, members)
}

// response checks the body of an answer against the document.
func (s schemas) response(r *openapi3.Response, contentType string, body []byte) error {
	media := r.Content.Get(contentType)
	switch {
	case len(r.Content) == 0 && contentType == "" && len(body) == 0:
		return nil // no body in the document, no body in the answer
	case media == nil:
		return fmt.Errorf("the Content-Type %q is not in the document", contentType)
	case strings.HasPrefix(contentType, "text/"):
		return nil // any text is valid
	}
	return s.json(media, body)
}

func (s schemas) json(media *openapi3.MediaType, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return s.validate(media, value)
}

func (s schemas) validate(media *openapi3.MediaType, value any) error {
	schema := s[media.Schema.Ref]
	if schema == nil {
		return errors.New("the document has no component for the body")
	}
	return schema.Validate(value)
}
