// SPDX-License-Identifier: GPL-2.0
/*
 * w1-sim: a simulated 1-Wire bus with DS18B20 probes, bit by bit, so that the
 * kernel's own search, w1_therm and its bulk read run on it.
 *
 *   modprobe w1-sim probes=3
 *   /sys/module/w1_sim/parameters/
 *     sixteenths   each probe's temperature in 1/16 degree, rw
 *     fault        each probe's fault, rw: 0 none, 1 does not answer,
 *                  2 does not convert (holds the value after power-on), 3 wrong checksum
 *     conversions  how often a conversion was started on the bus, rw
 *
 * Their numbers are 28-000000c0de00 and on. Source: Maxim DS18B20, 19-7487,
 * revision 6: ROM commands, function commands, scratchpad.
 */
#include <linux/bits.h>
#include <linux/module.h>
#include <linux/w1.h>

#define MAX_PROBES 8
#define SCRATCHPAD 9

enum { SEARCH_ROM = 0xf0, ALARM_SEARCH = 0xec, MATCH_ROM = 0x55, SKIP_ROM = 0xcc };
enum { CONVERT_T = 0x44, READ_SCRATCHPAD = 0xbe, WRITE_SCRATCHPAD = 0x4e, READ_POWER_SUPPLY = 0xb4 };
enum { FINE, SILENT, UNCONVERTED, WRONG_CHECKSUM };
enum state { ROM_COMMAND, SEARCHING, MATCHING, FUNCTION, READING, WRITING, DONE };

static int probes = 3;
module_param(probes, int, 0444);
static int sixteenths[MAX_PROBES] = { 336, 352, 368, 384, 400, 416, 432, 448 };
module_param_array(sixteenths, int, NULL, 0644);
static int fault[MAX_PROBES];
module_param_array(fault, int, NULL, 0644);
static int conversions;
module_param(conversions, int, 0644);

static struct probe {
	u64 id;
	u8 pad[SCRATCHPAD];
	bool active; /* addressed since the reset */
} all[MAX_PROBES];

static const u8 power_on[SCRATCHPAD] = { 0x50, 0x05, 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10, 0x1c };

/* of the bus; the w1 core's bus_mutex is held during a transaction */
static enum state state;
static unsigned int pos, phase;
static u8 command;

static void convert(int i)
{
	u8 *pad = all[i].pad;

	if (fault[i] == UNCONVERTED) {
		memcpy(pad, power_on, SCRATCHPAD);
		return;
	}
	pad[0] = sixteenths[i];
	pad[1] = sixteenths[i] >> 8;
	pad[6] = 0x10 - (sixteenths[i] & 0xf);
	pad[8] = w1_calc_crc8(pad, SCRATCHPAD - 1);
	if (fault[i] == WRONG_CHECKSUM)
		pad[8] ^= 0x55;
}

static void function(void)
{
	int i;

	pos = 0;
	switch (command) {
	case CONVERT_T:
		conversions++;
		for (i = 0; i < probes; i++)
			if (all[i].active)
				convert(i);
		state = DONE; /* it answers 1 to a read slot: converted */
		break;
	case READ_SCRATCHPAD:
		state = READING;
		break;
	case WRITE_SCRATCHPAD:
		state = WRITING;
		break;
	case READ_POWER_SUPPLY: /* 1: it has its own supply */
	default:
		state = DONE;
	}
}

static void rom_command(void)
{
	int i;

	pos = phase = 0;
	switch (command) {
	case ALARM_SEARCH:
		for (i = 0; i < probes; i++)
			all[i].active = false;
		fallthrough;
	case SEARCH_ROM:
		state = SEARCHING;
		break;
	case MATCH_ROM:
		state = MATCHING;
		break;
	case SKIP_ROM:
		state = FUNCTION;
		break;
	default:
		state = DONE;
	}
}

/* a probe with another number leaves the transaction */
static void keep(u8 bit)
{
	int i;

	for (i = 0; i < probes; i++)
		if (((all[i].id >> pos) & 1) != bit)
			all[i].active = false;
	pos++;
}

/* the line is low if one probe pulls it */
static u8 wired_and(bool of_pad, bool inverted)
{
	int i;

	for (i = 0; i < probes; i++) {
		u8 bit = of_pad ? all[i].pad[pos / 8] >> (pos % 8) : all[i].id >> pos;

		if (all[i].active && !((bit ^ inverted) & 1))
			return 0;
	}
	return 1;
}

static u8 touch_bit(void *data, u8 bit)
{
	u8 line = bit;
	int i;

	switch (state) {
	case ROM_COMMAND:
	case FUNCTION:
		command |= bit << pos;
		if (++pos < 8)
			break;
		if (state == ROM_COMMAND)
			rom_command();
		else
			function();
		command = 0;
		break;
	case SEARCHING:
		if (phase < 2)
			line = wired_and(false, phase);
		else
			keep(bit);
		phase = (phase + 1) % 3;
		if (pos == 64)
			state = DONE;
		break;
	case MATCHING:
		keep(bit);
		if (pos == 64) {
			pos = 0;
			state = FUNCTION;
		}
		break;
	case READING:
		line = wired_and(true, false);
		if (++pos == 8 * SCRATCHPAD)
			state = DONE;
		break;
	case WRITING: /* TH, TL, configuration */
		for (i = 0; i < probes; i++)
			if (all[i].active) {
				u8 *byte = &all[i].pad[2 + pos / 8];

				*byte = (*byte & ~BIT(pos % 8)) | bit << (pos % 8);
				all[i].pad[8] = w1_calc_crc8(all[i].pad, SCRATCHPAD - 1);
			}
		if (++pos == 24)
			state = DONE;
		break;
	default:
		line = 1;
	}
	return line;
}

static u8 reset_bus(void *data)
{
	u8 nobody = 1;
	int i;

	state = ROM_COMMAND;
	pos = 0;
	command = 0;
	for (i = 0; i < probes; i++) {
		all[i].active = fault[i] != SILENT;
		if (all[i].active)
			nobody = 0;
	}
	return nobody;
}

static struct w1_bus_master master = { .touch_bit = touch_bit, .reset_bus = reset_bus };

static int __init sim_init(void)
{
	int i;

	probes = clamp(probes, 1, MAX_PROBES);
	for (i = 0; i < probes; i++) {
		u64 id = 0x28 | (0xc0de00ULL + i) << 8;

		all[i].id = id | (u64)w1_calc_crc8((u8 *)&id, 7) << 56; /* little-endian */
		memcpy(all[i].pad, power_on, SCRATCHPAD);
	}
	return w1_add_master_device(&master);
}

static void __exit sim_exit(void)
{
	w1_remove_master_device(&master);
}

module_init(sim_init);
module_exit(sim_exit);
MODULE_DESCRIPTION("Simulated 1-Wire bus with DS18B20 probes");
MODULE_LICENSE("GPL");
