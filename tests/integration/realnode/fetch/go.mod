module pipecat.dev/tests/realnode/fetch

go 1.26.0
