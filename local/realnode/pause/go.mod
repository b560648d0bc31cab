module pipecat.dev/local/realnode/pause

go 1.26.0
