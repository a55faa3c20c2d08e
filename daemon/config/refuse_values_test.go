package config

import "strings"

// refusedValues are durations and sizes that cannot be.
var refusedValues = []refusal{
	{
		name: "bare duration",
		text: "spool:\n  at_risk: 5\n",
		want: `fieldpost.yaml:6: spool.at_risk: write a unit: 5ms for milliseconds, 5s for seconds, 5m for minutes (got 5)`,
	},
	{
		name: "negative duration",
		text: "spool:\n  at_risk: -5s\n",
		want: `fieldpost.yaml:6: spool.at_risk: want a duration that is not negative (got -5s)`,
	},
	{
		name: "days",
		text: "spool:\n  max_age: 30d\n",
		want: `fieldpost.yaml:6: spool.max_age: want a duration such as 10s, 5m or 720h; there is no unit for days, a day is 24h (got 30d)`,
	},
	{
		name: "no duration",
		text: "spool:\n  max_age: long\n",
		want: `fieldpost.yaml:6: spool.max_age: want a duration such as 500ms, 10s, 5m or 720h (got long)`,
	},
	{
		name: "too long at risk",
		text: "spool:\n  at_risk: 1h\n",
		want: `fieldpost.yaml:6: spool.at_risk: want 0s to 10m (got 1h)`,
	},
	{
		name: "too few bytes",
		text: "spool:\n  max_bytes: 64KiB\n",
		want: `fieldpost.yaml:6: spool.max_bytes: want 1MiB to 1024GiB (got 64KiB)`,
	},
	{
		name: "megabytes",
		text: "spool:\n  max_bytes: 64MB\n",
		want: `fieldpost.yaml:6: spool.max_bytes: want a number of bytes, such as 64MiB (also KiB, GiB, or a plain number) (got 64MB)`,
	},
	{
		name: "too many bytes for a number",
		text: "spool:\n  max_bytes: 99999999999GiB\n",
		want: `fieldpost.yaml:6: spool.max_bytes: is too large a number (got 99999999999GiB)`,
	},
	{
		name: "life of an order",
		text: "commands:\n  max_life: 100ms\n",
		want: `fieldpost.yaml:6: commands.max_life: want 1s to 168h (got 100ms)`,
	},
	{
		name: "what becomes of unstamped orders",
		text: "commands:\n  unstamped: yes\n",
		want: `fieldpost.yaml:6: commands.unstamped: want refuse or accept (got yes)`,
	},
	{
		name: "metrics for everybody by mistake",
		text: "local:\n  metrics: 0.0.0.0:9108\n",
		want: `fieldpost.yaml:6: local.metrics: is no loopback address, so other machines could read the values of all sensors there, without a password; if that is what you want, list in local.hosts the names and addresses by which they ask this one, otherwise write 127.0.0.1 (got 0.0.0.0:9108)`,
	},
	{
		name: "metrics without an address",
		text: "local:\n  metrics: \":9108\"\n",
		want: `fieldpost.yaml:6: local.metrics: want an IP address and a port, such as 127.0.0.1:9108 or [::1]:9108 (got :9108)`,
	},
	{
		name: "metrics at a name",
		text: "local:\n  metrics: localhost:9108\n",
		want: `fieldpost.yaml:6: local.metrics: want an IP address and a port, such as 127.0.0.1:9108 or [::1]:9108 (got localhost:9108)`,
	},
	{
		name: "metrics without a port",
		text: "local:\n  metrics: 127.0.0.1:0\n",
		want: `fieldpost.yaml:6: local.metrics: want an IP address and a port, such as 127.0.0.1:9108 or [::1]:9108 (got 127.0.0.1:0)`,
	},
	{
		name: "history that is off",
		text: "history:\n  keep: off\n",
		want: `fieldpost.yaml:6: history.keep: want disk, memory or none (got off)`,
	},
	{
		name: "history without quantities",
		text: "history:\n  quantities: 0\n",
		want: `fieldpost.yaml:6: history.quantities: want 1 to 96 (got 0)`,
	},
	{
		name: "a word that is no level",
		text: "history:\n  keep: 40%\n",
		want: `fieldpost.yaml:6: history.keep: want disk, memory or none (got 40%)`,
	},
	{
		name: "hosts without metrics",
		text: "local:\n  hosts: [greenhouse.local]\n",
		want: `fieldpost.yaml:6: local.metrics: is missing, and so is local.listen; without one of them local.hosts has no effect`,
	},
	{
		name: "a token without a page",
		text: "local:\n  token_file: page.token\n",
		want: `fieldpost.yaml:6: local.listen: is missing; without it local.token_file has no effect`,
	},
	{
		name: "a page for everybody",
		text: "local:\n  listen: 0.0.0.0:8080\n  hosts: [greenhouse.local]\n",
		want: "fieldpost.yaml:6: local.listen: is no loopback address, so it needs local.token_file, which browsers on other machines have to show, and local.hosts, the names and addresses by which they ask this one; or write 127.0.0.1, and look through `ssh -L` (got 0.0.0.0:8080)",
	},
	{
		name: "a page where the metrics are",
		text: "local:\n  listen: 127.0.0.1:9108\n  metrics: 127.0.0.1:9108\n",
		want: `fieldpost.yaml:6: local.listen: is the address of local.metrics too; choose another port (got 127.0.0.1:9108)`,
	},
	{
		name: "a host with a port",
		text: "local:\n  metrics: 0.0.0.0:9108\n  hosts: [\"greenhouse.local:9108\"]\n",
		want: `fieldpost.yaml:7: local.hosts[0]: want a host's name or its address, without a port (got greenhouse.local:9108)`,
	},
}

// refusedTopics are topics that cannot be, once filled in or at once.
var refusedTopics = []refusal{
	{
		name: "sensor in the topic of orders",
		text: "commands: {topic: 'a/{sensor}'}\n",
		want: `fieldpost.yaml:5: commands.topic: {sensor} is allowed only in readings.topic (got a/{sensor})`,
	},
	{
		name: "quantity in the topic of orders",
		text: "commands: {topic: 'a/{quantity}'}\n",
		want: `fieldpost.yaml:5: commands.topic: {quantity} is allowed only in readings.topic (got a/{quantity})`,
	},
	{
		name: "unknown placeholder",
		text: "commands: {answers: 'a/{board}'}\n",
		want: `fieldpost.yaml:5: commands.answers: unknown placeholder {board}, want {thing} (got a/{board})`,
	},
	{
		name: "half a placeholder",
		text: "commands: {answers: 'a/{thing'}\n",
		want: `fieldpost.yaml:5: commands.answers: has an unmatched brace; write a placeholder as {thing} (got a/{thing)`,
	},
	{
		name: "wildcard",
		text: "commands: {topic: 'a/+'}\n",
		want: `fieldpost.yaml:5: commands.topic: has a wildcard, want one topic without + and # (got a/+)`,
	},
	{
		name: "NUL in a topic",
		text: "commands: {topic: \"a\\0b\"}\n",
		want: `fieldpost.yaml:5: commands.topic: has control characters (got "a\x00b")`,
	},
	{
		name: "too many slashes",
		text: "commands: {topic: a/b/c/d/e/f/g/h/i}\n",
		want: `fieldpost.yaml:5: commands.topic: has 8 slashes, want at most 7 (got a/b/c/d/e/f/g/h/i)`,
	},
	{
		name: "long topic",
		text: "commands: {topic: " + strings.Repeat("é", 130) + "}\n",
		want: `fieldpost.yaml:5: commands.topic: is 260 bytes long, want at most 256 (got ` + strings.Repeat("é", 30) + `...)`,
	},
}
