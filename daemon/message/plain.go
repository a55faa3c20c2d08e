package message

import (
	"strconv"
)

// Plain gives a value as it is published alone: a number with as many digits as it
// needs, true or false, a text as it is. What has no form is empty.
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
