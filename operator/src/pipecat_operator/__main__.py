"""``python -m pipecat_operator``."""

from pipecat_operator.main import main

main()
