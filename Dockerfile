# vramflow's workers. Which one is chosen by the command: docker-compose.yml.
ARG NODE_VERSION=20.20.2
FROM node:${NODE_VERSION}-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# With the development dependencies: the build needs the compiler.
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
ENV NODE_ENV=production VRAMFLOW_DATA_DIR=/data HOME=/data
COPY --from=modules /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY bin bin
# What `vramflow clip install` installs into /data, and by which the agent tells whether it is there.
COPY parts/clip/package.json parts/clip/package-lock.json parts/clip/
# A user id that hardly anyone has on the host: the agent sees the host's processes, and may neither signal them nor read
# their environment. A new volume at /data takes this owner over.
RUN ln -s /app/bin/vramflow.js /usr/local/bin/vramflow && mkdir /data && chown 10470:10470 /data
USER 10470:10470
ENTRYPOINT ["node"]
CMD ["dist/worker.js", "--role", "control"]
