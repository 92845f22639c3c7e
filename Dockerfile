# Train MNIST, kernels compiled beforehand:
#     docker build -t fastmlp . && docker run --rm fastmlp
# Your own data and networks:
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" fastmlp train --data rows.npz --save net.npz
# Kernels are for one type of processor, that of the machine which builds the image; on another they are compiled at the
# first fit. docs/compile.md says how one image serves several types.
FROM python:3.13-slim AS build
RUN python -m venv /opt/fastmlp
ENV PATH=/opt/fastmlp/bin:$PATH NUMBA_CACHE_DIR=/opt/kernels
WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY fastmlp fastmlp
COPY kernels kernels
RUN pip install --no-cache-dir .
# What classifiers need. Each further name compiles more: see `fastmlp compile --help`.
RUN fastmlp compile --optimizer sgd adam --output softmax && chmod -R a+rX /opt/kernels

FROM python:3.13-slim
COPY --from=build /opt/fastmlp /opt/fastmlp
COPY --from=build /opt/kernels /opt/kernels
ENV PATH=/opt/fastmlp/bin:$PATH NUMBA_CACHE_DIR=/opt/kernels PYTHONUNBUFFERED=1
RUN useradd --create-home user && install --directory --owner=user /work
USER user
WORKDIR /work
ENTRYPOINT ["fastmlp"]
CMD ["train"]
