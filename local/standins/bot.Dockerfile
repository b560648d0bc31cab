# The bot's image as it is, with Daily's stand-in in front of Daily's own package: Pipecat's transport knows no difference.
ARG BOT=docker.io/library/pipecat-bot:dev
FROM ${BOT}
COPY local/pythonpath /opt/standin
COPY tests/e2e/bots /opt/bots
ENV PYTHONPATH=/opt/standin:/opt/host
