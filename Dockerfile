# Captions a folder of photos on a CPU, offline once it is built:
#   docker build --tag captioner .
#   docker run --rm --network none --volume "$PWD/holiday:/photos:ro" captioner
#   docker run --rm --volume "$PWD/holiday:/photos:ro" captioner caption /photos --format jsonl
FROM python:3.12-slim

# The address of an index with builds of torch for CPUs alone, which are smaller. Empty: torch comes
# from the same place as everything else. docker build --build-arg TORCH_INDEX=…
ARG TORCH_INDEX=

WORKDIR /captioner
COPY pyproject.toml README.md LICENSE ./
COPY captioner captioner
COPY configs configs

RUN if [ -n "$TORCH_INDEX" ]; then \
        PIP_INDEX_URL="$TORCH_INDEX" pip install --no-cache-dir "torch>=2.11" "torchvision>=0.26"; \
    fi
RUN pip install --no-cache-dir ".[pretrained,heic]"
RUN captioner --version

RUN useradd --create-home captioner
USER captioner
WORKDIR /home/captioner

ENTRYPOINT ["captioner"]
CMD ["caption", "/photos"]
