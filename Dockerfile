# vramflow's workers. Which one is chosen by the command: docker-compose.yml.
ARG NODE_VERSION=20.20.2
FROM node:${NODE_VERSION}-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# What the lock file says; not `npm ci`: see scripts/prepare.mjs.
RUN npm ci --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN node scripts/build.mjs

FROM node:${NODE_VERSION}-bookworm-slim AS modules
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund --omit=dev

FROM node:${NODE_VERSION}-bookworm-slim
# The SDK's native part trusts the system's certificates (TLS to a Temporal server elsewhere).
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV NODE_ENV=production VRAMFLOW_DATA_DIR=/data
COPY --from=modules /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY bin bin
RUN ln -s /app/bin/vramflow.js /usr/local/bin/vramflow && mkdir /data
VOLUME /data
ENTRYPOINT ["node"]
CMD ["dist/worker.js", "--role", "control"]
