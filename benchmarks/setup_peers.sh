#!/bin/sh
# Makes .venv-peers: this project and the libraries it is compared with, in one environment.
# Peers that pin old versions of what everybody uses, or want torchvision, come without their dependencies.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv .venv-peers
pip=.venv-peers/bin/pip
"$pip" install --quiet torch==2.13.0
"$pip" install --quiet --editable .
"$pip" install --quiet foolbox==3.3.4 adversarial-robustness-toolbox==1.20.1
"$pip" install --quiet --no-deps torchattacks==3.5.1 cleverhans==4.0.0 pyautoattack==0.2.0 adv-lib==0.2.8
