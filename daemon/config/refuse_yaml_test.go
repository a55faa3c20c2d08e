package config

// refusedShapes are not made of the keys, values and lists that are wanted.
var refusedShapes = []refusal{
	{
		name: "unknown key",
		text: "sensor: []\n",
		want: `fieldpost.yaml:5: unknown key "sensor", did you mean "sensors"?`,
	},
	{
		name: "unknown key, nothing near",
		text: "colour: red\n",
		want: `fieldpost.yaml:5: unknown key "colour", want one of thing, broker, readings, commands, spool, history, local, sensors, outputs`,
	},
	{
		name: "unknown key in an entry",
		text: "sensors:\n- name: air\n  chip: bme280\n  bus: i2c-1\n  adress: 0x76\n",
		want: `fieldpost.yaml:9: sensors[0]: unknown key "adress", did you mean "address"?`,
	},
	{
		name: "key with a dash",
		text: "spool:\n  max-bytes: 1MiB\n",
		want: `fieldpost.yaml:6: spool: unknown key "max-bytes", did you mean "max_bytes"?`,
	},
	{
		name: "duplicate key",
		text: "thing: other\n",
		want: `fieldpost.yaml:5: duplicate key "thing", first on line 1`,
	},
	{
		name: "duplicate key in an entry",
		text: "outputs:\n- name: pump\n  pin: GPIO27\n  name: fan\n",
		want: `fieldpost.yaml:8: outputs[0]: duplicate key "name", first on line 6`,
	},
	{
		name: "list as a key",
		text: "[a, b]: c\n",
		want: `fieldpost.yaml:5: want a plain word as a key`,
	},
	{
		name: "value for a section",
		text: "spool: big\n",
		want: `fieldpost.yaml:5: spool: want keys with values, not a single value`,
	},
	{
		name: "list for a section",
		text: "spool: [1]\n",
		want: `fieldpost.yaml:5: spool: want keys with values, not a list`,
	},
	{
		name: "section for a list",
		text: "sensors:\n  name: air\n",
		want: `fieldpost.yaml:6: sensors: want a list, each entry after "- ", not keys with values`,
	},
	{
		name: "value for an entry",
		text: "sensors: [air]\n",
		want: `fieldpost.yaml:5: sensors[0]: want keys with values, not a single value`,
	},
	{
		name: "list for a value",
		text: "spool:\n  dir: [a]\n",
		want: `fieldpost.yaml:6: spool.dir: want text, not a list`,
	},
	{
		name: "keys for a duration",
		text: "spool:\n  at_risk: {s: 5}\n",
		want: `fieldpost.yaml:6: spool.at_risk: want a duration such as 10s or 5m, not keys with values`,
	},
	{
		name: "list for a number of bytes",
		text: "spool:\n  max_bytes: [1]\n",
		want: `fieldpost.yaml:6: spool.max_bytes: want a number of bytes such as 64MiB, not a list`,
	},
	{
		name: "no value",
		text: "spool:\n  dir:\n",
		want: `fieldpost.yaml:6: spool.dir: has no value; give one or leave the key out`,
	},
	{
		name: "empty value",
		text: "spool:\n  dir: ''\n",
		want: `fieldpost.yaml:6: spool.dir: has no value; give one or leave the key out`,
	},
}

// refusedYAML is YAML that is not supported.
var refusedYAML = []refusal{
	{
		name: "anchor and alias",
		text: "sensors: &all []\noutputs: *all\n",
		want: "fieldpost.yaml:5: anchors (&all) are not supported; write the value out where it is needed\nfieldpost.yaml:6: aliases (*all) are not supported; write the value out",
	},
	{
		name: "merge key",
		text: "spool:\n  <<: {at_risk: 5s}\n",
		want: `fieldpost.yaml:6: merge keys (<<) are not supported; write the keys out`,
	},
	{
		name: "tag",
		text: "spool: {dir: !!str x}\n",
		want: `fieldpost.yaml:5: tags (!!str) are not supported; write the plain value`,
	},
	{
		name: "two documents",
		text: "---\nthing: b\n",
		want: `fieldpost.yaml:5: a second document starts here; a configuration is one document, without a line of ---`,
	},
}

// refusedText is not YAML.
var refusedText = []refusal{
	{
		name: "tab",
		text: "spool:\n\tdir: x\n",
		want: `fieldpost.yaml:6: a tab where YAML requires spaces`,
	},
	{
		name: "tab before a value",
		text: "spool:\n  dir:\t%x\n",
		want: `fieldpost.yaml:6: a value cannot begin with %, @ or ` + "`" + ` outside quotes`,
	},
	{
		name: "indentation",
		text: "spool:\n   dir: x\n  at_risk: 5s\n",
		want: `fieldpost.yaml:7: an indentation that does not fit the lines above, or something after a closing quote`,
	},
	{
		name: "colon forgotten",
		text: "spool:\n  dir: x\noutputs\nsensors: []\n",
		want: `fieldpost.yaml:7: want "key: value"; a colon and a space are missing`,
	},
	{
		name: "quote never closed",
		text: "spool:\n  dir: \"x\nsensors: []\n",
		want: `fieldpost.yaml:6: a quote is opened here and never closed`,
	},
	{
		name: "second colon",
		text: "spool: dir: x\n",
		want: `fieldpost.yaml:5: a second ": " in one line, or an indentation that does not fit the line above`,
	},
	{
		name: "control character",
		text: "spool:\n  dir: a\x01b\n",
		want: `fieldpost.yaml:6: an invisible control character; delete it`,
	},
	{
		name: "not UTF-8",
		text: "spool:\n  dir: \xe9t\xe9\n",
		want: `fieldpost.yaml:6: is not UTF-8 text; save the file as UTF-8`,
	},
	{
		name: "unknown anchor",
		text: "spool: *x\n",
		want: `fieldpost.yaml:5: is not YAML: unknown anchor 'x' referenced`,
	},
}
