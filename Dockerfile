# The service as an image: docker build -t mirl . && docker run --read-only -p 8000:8000 -v "$PWD/tickets:/tickets:ro" mirl \
#   --ticket /tickets/small.mirl
# Built in one stage with a compiler, run in another without; the user has no rights and nothing is written.
FROM python:3.11-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py constraints.txt MANIFEST.in README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/mirl \
    && /opt/mirl/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/mirl /opt/mirl
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin mirl
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s CMD ["/opt/mirl/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["/opt/mirl/bin/mirl", "serve", "--host", "0.0.0.0"]
