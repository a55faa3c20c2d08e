// Package config reads fieldpost's configuration file.
//
// The file is YAML (specification 1.2.2, as gopkg.in/yaml.v3 reads it), and
// the types of this package are its only description: a key is a field's yaml
// tag, its meaning the field's comment, its default an entry of one struct
// literal, its range an entry of one table of rules. The reader walks the
// types by reflection, so a key that is not in a type does not exist.
//
// A mistake in this file moves a pump, or keeps it from moving, months later
// and far away. So the reader guesses nothing. A key it does not know, a key
// given twice, a number that two readers read differently, a pin with two
// users, a certificate that is not there: each is refused, with its line, and
// all of them in one go, so that a person mends the file once.
//
// What YAML offers beyond keys, values and lists is refused too: anchors,
// aliases, merge keys, tags and a second document. They save a line and hide a
// value.
package config
