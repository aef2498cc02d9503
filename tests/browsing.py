"""A headless Chromium for the tests that need one."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@contextmanager
def chromium(width, height=1000):
    """Yield a browser whose window has that size; where there is none, skip the test."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason='pip install -e ".[site]"')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    # A window may not be as narrow as a phone; an emulated device may.
    metrics = {"width": width, "height": height, "pixelRatio": 1, "mobile": width < 600}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def faults(driver):
    """Return the errors that the console has shown since it was last asked."""
    return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
