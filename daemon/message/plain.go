package message

import (
	"strconv"
)

// Plain returns a value as plain text: a number with as many digits as it needs, true or
// false, or a text as it is; "" for any other type.
func Plain(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case float64:
		return appendFloat(nil, v)
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case bool:
		return strconv.AppendBool(nil, v)
	}
	return nil
}
