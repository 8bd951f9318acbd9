"""The page in Chromium, at the widths of a telephone and of a desk, light and dark."""

import pytest

from edvit_tf.reproduce.run import PAGE
from tests.support import browser as browsers
from tests.support.commands import run_command

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]


def test_the_page_complains_of_nothing_asks_for_nothing_and_fits(tmp_path):
    code, _, err = run_command(["reproduce", "--table", "4", "--out", tmp_path / "out"])
    assert code == 0, err
    with browsers.chromium() as browser:
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1600, "light")):
            with browsers.opened(browser, tmp_path / "out" / PAGE, width, scheme) as found:
                assert found.complaints == [] and found.asked == []
                wide = found.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width
                # every cell of every row is seen without a turn to the side
                hidden = found.page.evaluate(
                    """[...document.querySelectorAll("table.stack tbody td")].filter((cell) => {
                        const box = cell.getBoundingClientRect();
                        return box.right > document.documentElement.clientWidth;
                    }).length"""
                )
                assert hidden == 0 and found.page.locator("table.stack tbody td").count() > 100
                # what was asked for stands first
                assert found.page.locator("h2").first.inner_text().startswith("Table 4")
