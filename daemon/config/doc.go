// Package config reads fieldpost's configuration file.
//
// The file is YAML (specification 1.2.2, as gopkg.in/yaml.v3 reads it). The types of this
// package are its only description: a key is a field's yaml tag, its meaning the field's
// comment, its default an entry of a struct literal, its range an entry of a table of rules.
// The loader walks the types by reflection, so a key that is not in a type does not exist.
//
// A mistake in this file may switch a pump, or fail to switch it, months later and far away.
// So the loader guesses nothing. It refuses unknown keys, keys given twice, numbers that YAML
// parsers read differently, pins with two users and missing certificates. It reports each
// mistake with its line, and all of them at once, so that a person fixes the file once.
//
// It also refuses what YAML offers beyond keys, values and lists: anchors, aliases, merge
// keys, tags and a second document. They save a line and hide a value.
package config
