// SPDX-License-Identifier: GPL-2.0
/*
 * spi-sim: a simulated SPI controller with two chip selects. Each shifts out a word
 * of 32 bits, its most significant bit first, as a MAX31855 or a MAX6675 does. The
 * kernel's driver reads the chip at the first, /dev/spidevN.1 is at the second.
 *
 *   modprobe spi-sim
 *   /sys/module/spi_sim/parameters/word   both words, rw
 */
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spi/spi.h>

/* 100.75 degrees, 25.0625 in the chip: an example of the MAX31855's data sheet's tables */
static uint word[2] = { 0x064c1910, 0x064c1910 };
module_param_array(word, uint, NULL, 0644);

static struct platform_device *pdev;
static struct spi_controller *host;
static unsigned int pos; /* bits since the chip was selected */

static void set_cs(struct spi_device *spi, bool level)
{
	pos = 0;
}

static int transfer_one(struct spi_controller *c, struct spi_device *spi, struct spi_transfer *t)
{
	u8 *rx = t->rx_buf;
	unsigned int i;

	for (i = 0; i < 8 * t->len; i++, pos++) {
		u8 bit = pos < 32 ? word[spi_get_chipselect(spi, 0) & 1] >> (31 - pos) & 1 : 0;

		if (rx && i % 8 == 0)
			rx[i / 8] = 0;
		if (rx)
			rx[i / 8] |= bit << (7 - i % 8);
	}
	return 0;
}

static int __init sim_init(void)
{
	/* a name that spidev knows, for the second */
	static struct spi_board_info chips[] = {
		{ .modalias = "max31855", .max_speed_hz = 1000000, .chip_select = 0 },
		{ .modalias = "dh2228fv", .max_speed_hz = 1000000, .chip_select = 1 },
	};
	int i, err;

	pdev = platform_device_register_simple("spi-sim", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	host = spi_alloc_host(&pdev->dev, 0);
	err = -ENOMEM;
	if (!host)
		goto out;
	host->num_chipselect = ARRAY_SIZE(chips);
	host->mode_bits = SPI_CPOL | SPI_CPHA;
	host->bits_per_word_mask = SPI_BPW_MASK(8) | SPI_BPW_MASK(16) | SPI_BPW_MASK(32);
	host->set_cs = set_cs;
	host->transfer_one = transfer_one;
	err = spi_register_controller(host);
	if (err) {
		spi_controller_put(host);
		goto out;
	}
	for (i = 0; i < ARRAY_SIZE(chips); i++)
		if (!spi_new_device(host, &chips[i]))
			pr_err("spi-sim: no device at chip select %d\n", i);
	return 0;
out:
	platform_device_unregister(pdev);
	return err;
}

static void __exit sim_exit(void)
{
	spi_unregister_controller(host);
	platform_device_unregister(pdev);
}

module_init(sim_init);
module_exit(sim_exit);
MODULE_DESCRIPTION("Simulated SPI controller with two chips that only talk");
MODULE_LICENSE("GPL");
