package config

import _ "embed"

// Schema is the JSON Schema (draft 7, which editors know best) of the configuration, in JSON. It
// is made from this package, the chips and the outputs by `make docs`. It accepts all that
// [Load] accepts, and refuses unknown keys, keys that are missing, words that are none of those
// that a key has, and numbers out of their range.
//
//go:embed schema.json
var Schema []byte
