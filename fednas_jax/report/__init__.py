"""What a run leaves to read and to look at: records, plots, cell drawings."""

import logging

# Where there is no home folder, matplotlib keeps its files in a temporary one, and warns of it at
# every start. It is removed at the end; nothing is lost.
logging.getLogger("matplotlib").addFilter(
    lambda record: "temporary cache directory" not in record.getMessage()
)
