"""Records, plots, drawings of cells, and pages of runs."""

import logging

# Without a home folder, matplotlib has its cache in a temporary folder, and warns at every start.
# The folder is removed at the end, and nothing is lost.
logging.getLogger("matplotlib").addFilter(
    lambda record: "temporary cache directory" not in record.getMessage()
)
