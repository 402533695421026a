# The portal: web, worker, chain worker, beat and the gateway's syncer are this image with different commands (docker-compose.yml).
FROM python:3.11-slim AS packages
COPY requirements.txt /
RUN pip install --no-cache-dir --prefix=/packages -r /requirements.txt

FROM python:3.11-slim
COPY --from=packages /packages /usr/local
# Removes snapshots past their time, and reads them for downloads.
RUN apt-get update && apt-get install -y --no-install-recommends restic && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home interchain && mkdir /data && chown interchain: /data
WORKDIR /app
COPY --chown=interchain: manage.py pyproject.toml ./
COPY --chown=interchain: interchain_site interchain_site
COPY --chown=interchain: billing billing
COPY --chown=interchain: nodes nodes
COPY --chown=interchain: marketplace marketplace
COPY --chown=interchain: templates templates
COPY --chown=interchain: static static
COPY --chown=interchain: verify verify
# Values for this one command only; nothing of them stays in the image.
RUN SECRET_KEY=building FIELD_ENCRYPTION_KEYS=building DATA_DIR=/data PORTAL_URL=https://building.invalid \
    python manage.py collectstatic --no-input -v 0
USER interchain
ENV DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
CMD ["uvicorn", "interchain_site.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--proxy-headers", "--no-access-log", "--ws-ping-interval", "5", "--ws-ping-timeout", "10", "--ws-max-size", "16384", "--ws-per-message-deflate", "false"]
